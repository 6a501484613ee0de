"""What is known to differ between the mesh and the model, and why; docs/compatibility.md holds the same table."""

from __future__ import annotations

# By a name: what differs, and the reason. test_differences.py shows each on both sides.
DIFFERENCES: dict[str, tuple[str, str]] = {
    "ports": (
        "one port answers all four services; in the mesh each has its own, and UNIMPLEMENTED for the others",
        "one model does the work of all",
    ),
    "versions": (
        "`versions` holds one version four times; in the mesh each service tells its own, and `user_tower` is empty"
        " where the request brought its query vectors",
        "tower, index, filter and scoring come from one snapshot",
    ),
    "explain": (
        "`explain` tells of filter, clusters and items scored; in the mesh, of the milliseconds of each service",
        "one pass calls nobody",
    ),
    "rounding": (
        "similarities lie within 1e-4 of the vectors' lengths from the mesh's",
        "search is integer, 16 bits a value; the mesh's is float32",
    ),
    "company": (
        "an item's value is the same to the bit whatever is asked beside it; in the mesh its last bits may change",
        "integers sum alike in any order, and float modules run at fixed shapes",
    ),
    "limits": (
        "Search and Score take no more than a request for results may ask; the mesh's take a quarter more",
        "the mesh's orchestrator asks them for candidates, of which there are more than results; the model asks nobody",
    ),
}


def table() -> str:
    """The table of docs/compatibility.md."""
    rows = [f"| {what} | {reason} |" for what, reason in DIFFERENCES.values()]
    return "\n".join(["| difference | reason |", "|---|---|", *rows])

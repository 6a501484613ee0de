"""A made-up company's feed, with a protocol of awkward choices, moved to the model without a change of its callers."""

"""A caller that has neither meshfold nor its stubs: it learns the mesh's protocol by reflection and asks.

pip install grpcio grpcio-reflection
python examples/caller.py 127.0.0.1:50051
"""

import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName("mesh.v1.OrchestratorService").methods_by_name["Retrieve"]
        retrieve = channel.unary_unary(
            "/mesh.v1.OrchestratorService/Retrieve",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        answer = retrieve(GetMessageClass(method.input_type)(max_results=5), timeout=5)
        for candidate in answer.candidates:
            print(candidate.item_key or candidate.item_id, round(candidate.value, 4))
        print("version", answer.versions.index)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")

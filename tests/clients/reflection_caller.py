"""Calls a gRPC service of which it knows an address: everything else comes from the reflection service.

    reflection_caller.py 127.0.0.1:50057 realtime.RealtimeService

Each line of input is {"method": …, "request": {…}} in protobuf's JSON; each is answered by one line, {"answer": {…}}
(all fields, by their names in the .proto) or {"error": {"code": …, "details": …}}. The first line of output is
{"methods": [...]}, what the service offers.
"""

import json
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

CALL_TIMEOUT_S = 5


def main(address, service_name):
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = pool.FindServiceByName(service_name)
        say({"methods": [method.name for method in service.methods]})
        for line in sys.stdin:
            call = json.loads(line)
            say(answer(channel, service.FindMethodByName(call["method"]), call["request"]))


def answer(channel, method, request):
    request = ParseDict(request, GetMessageClass(method.input_type)())
    path = f"/{method.containing_service.full_name}/{method.name}"
    remote = channel.unary_unary(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    try:
        response = remote(request, timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        return {"error": {"code": error.code().name, "details": error.details()}}
    return {"answer": MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)}


def say(value):
    print(json.dumps(value), flush=True)


main(*sys.argv[1:])

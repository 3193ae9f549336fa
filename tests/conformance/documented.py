"""Prints what AWS documents of the operations of S3, or of those beside it (IAM and STS), from AWS's own models of the APIs as
botocore carries them.

    target/conformance/venv/bin/python tests/conformance/documented.py >tests/tests/s3/documented.txt
    target/conformance/venv/bin/python tests/conformance/documented.py beside >tests/tests/s3/documented_beside.txt
"""

import sys

import botocore
import botocore.session

# Asked for at endpoints of their own, so that nothing of a request to S3 tells them from others.
ELSEWHERE = ("ListDirectoryBuckets", "WriteGetObjectResponse")

# The operation's own, not a parameter.
UNNAMED = "x-amz-meta-"


def main():
    print(f"# Made by tests/conformance/documented.py of botocore {botocore.__version__}.")
    if sys.argv[1:] == ["beside"]:
        beside()
    else:
        of_s3()


def beside():
    for service in ("iam", "sts"):
        model = botocore.session.get_session().get_service_model(service)
        for name in sorted(model.operation_names):
            shape = model.operation_model(name).input_shape
            print(service, name, *(shape.members if shape else ()))


def of_s3():
    model = botocore.session.get_session().get_service_model("s3")
    for name in sorted(model.operation_names):
        operation = model.operation_model(name)
        if operation.deprecated or name in ELSEWHERE:
            continue
        members = operation.input_shape.members.values() if operation.input_shape else ()
        taken = [f"{place}:{member}" for place, member in sorted(filter(None, map(parameter, members)))]
        print(name, operation.http["method"], operation.http["requestUri"], *taken)


def parameter(member):
    place = {"header": "header", "querystring": "key"}.get(member.serialization.get("location"))
    name = member.serialization.get("name", "")
    if not place or name == UNNAMED:
        return None
    return place, name.lower() if place == "header" else name


main()

#!/usr/bin/env python3
"""Makes what the examples import as esker.v1 from the .proto files: messages and stubs, in ./esker.

They are not committed: it takes a second, they are never out of date, and they suit the protobuf that is installed.
"""
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"

if __name__ == "__main__":
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("esker/v1/*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", f"--python_out={HERE}", f"--pyi_out={HERE}", f"--grpc_python_out={HERE}"]
    subprocess.run([*command, *files], check=True, cwd=PROTO)

"""Clients other than Java's, librdkafka's and kcat, as administrators and with records: kafka-python, aiokafka, kafkajs, franz-go's kadm.

Owns: which cases there are, how programs in other languages are run. Does not own: what each client is asked (`other/`).
Everything runs against one broker, or with --cluster three agents.
"""
import os
import subprocess

from harness import CACHE, ROOT, Failed, case
from other import aiokafka_cases, kafka_python, kafka_python_records

KAFKAJS = ["node", ROOT / "tests" / "clients" / "other" / "kafkajs" / "cases.js"]
KADM = [CACHE / "kadm" / "kadm"]
ENVIRONMENT = os.environ | {"NODE_PATH": str(CACHE / "kafkajs" / "node_modules")}
SECONDS = 60


def register(client, name, function):
    def run(context):
        function(context)

    run.__module__ = __name__
    case(run, name=f"{client}/{name}")


def program(command, name):
    """A case of a program in another language: it is told the case and the brokers, and exits 0 if the case holds."""
    def run(context):
        try:
            done = subprocess.run([*command, name, context.shared().bootstrap], env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"no end within {SECONDS} s: {(error.stderr or b'').decode()[-1500:]}") from None
        if done.returncode != 0:
            raise Failed(f"exit code {done.returncode}: {done.stderr[-2500:]}")

    return run


for client, cases in {"kafka_python": kafka_python.CASES + kafka_python_records.CASES, "aiokafka": aiokafka_cases.CASES}.items():
    for function in cases:
        register(client, function.__name__, function)
for client, command in {"kafkajs": KAFKAJS, "kadm": KADM}.items():
    for name in subprocess.run([*command, "--list"], env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout.split():
        register(client, name, program(command, name))

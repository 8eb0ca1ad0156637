# The front door. `just` lists the recipes; what they do is in `cargo xtask` and cargo itself.

default:
    @just --list

# Run Esker on ./esker-data (Kafka on 9092, HTTP on 9096)
run *ARGS:
    cargo run --release -- dev {{ARGS}}

# Format, lints, rules of the house: quick enough for every save
check:
    cargo xtask ci format codegen tidy clippy

# Unit and integration tests
test *ARGS:
    cargo test --workspace {{ARGS}}

# Stock Kafka clients, kill -9, bad input, against a release build
clients *ARGS:
    cargo build --release --package esker
    tests/clients/run {{ARGS}}

# Suites that nobody here wrote (librdkafka, franz-go, rdkafka, rskafka), against what is expected of each test. `just compat ci` is quick
compat *ARGS:
    cargo build --release --package esker
    tests/compat/run {{ARGS}}

# A cluster under fire: agents killed, paused and cut off, etcd without its leader, a faulty bucket. `CHAOS_KILLS=400 just chaos` is long
chaos *ARGS="chaos":
    cargo build --release --package esker --package esker-proxy
    tests/clients/run {{ARGS}}

# Everything that CI runs
ci *STEPS:
    cargo xtask ci {{STEPS}}

# Rewrite what is generated: the Kafka codec and the reference pages in docs/
generate:
    cargo xtask codegen
    cargo xtask reference

# Two commands: `make train` and `make test`. Each installs the software Vulkan driver where a machine has no GPU driver,
# and says so; on a machine with a GPU, plain `cargo run --release -- train` does the same without make.

# Without a session Mesa's drivers grumble on stderr that this is not set; any folder will do.
export XDG_RUNTIME_DIR ?= /tmp

.PHONY: train test driver check gpu-visit

train: driver
	cargo run --release --quiet -- train --next-free

# Which packages `make test` and `make check` look at: the engine; CI sets --workspace, all of them.
PACKAGES ?=

# One test process after another: each opens one device. Optimized, with debug assertions in this crate (see Cargo.toml).
test: driver
	cargo test --profile checked $(PACKAGES)

driver:
	@sh .ci/driver.sh

# A folder to copy to a machine with a GPU, and a script in it that tests and measures everything there: see docs/PROFILING.md.
gpu-visit:
	@bash benches/visit/pack.sh $(PACKAGES)

# What CI checks beside the tests.
check:
	cargo fmt --all -- --check
	cargo clippy --profile checked --all-targets $(PACKAGES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --profile checked --no-deps

//! The binary `wgpt`: runs [`wgpt::cli`].

fn main() -> std::process::ExitCode {
    wgpt::cli::main()
}

//! The binary `wgpt`: hands over to [`wgpt::cli`].

fn main() -> std::process::ExitCode {
    wgpt::cli::main()
}

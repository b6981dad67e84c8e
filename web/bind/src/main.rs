//! Processes a WebAssembly module with wasm-bindgen: writes the final module and the JavaScript that loads it.
//!
//!     bind MODULE.wasm FOLDER

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, folder] = &arguments[..] else {
        eprintln!("usage: bind MODULE.wasm FOLDER");
        std::process::exit(2);
    };
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    let written = bindgen.input_path(module).web(true).and_then(|bindgen| bindgen.typescript(false).generate(folder));
    if let Err(error) = written {
        eprintln!("{module}: {error:#}");
        std::process::exit(1);
    }
}

//! Shaders broken on purpose, for tests: in builds with debug assertions, one text in the WGSL of a kernel file can be replaced by another.
//!
//! `WGPT_BREAK="matmul=tile_shared: OLD => NEW"` replaces every `OLD` in that variant of the file, `WGPT_BREAK="matmul: OLD => NEW"` in all of
//! its variants. The hash of the shaders, by which results are stored, does not change. A release build ignores the variable.

/// The WGSL of a file in one variant, as it is to be compiled.
#[cfg(not(debug_assertions))]
pub fn text(_file: &str, _variant: &str, text: String) -> String {
    text
}

#[cfg(debug_assertions)]
pub use armed::text;

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;

    struct Break {
        file: String,
        variant: Option<String>,
        old: String,
        new: String,
    }

    impl Break {
        fn of(text: &str) -> Option<Break> {
            let (place, edit) = text.split_once(": ")?;
            let (old, new) = edit.split_once(" => ")?;
            let (file, variant) = place.split_once('=').map_or((place, None), |(file, variant)| (file, Some(variant.to_owned())));
            Some(Break { file: file.to_owned(), variant, old: old.to_owned(), new: new.to_owned() })
        }
    }

    fn wanted() -> Option<&'static Break> {
        static WANTED: OnceLock<Option<Break>> = OnceLock::new();
        let read = || {
            let text = std::env::var("WGPT_BREAK").ok()?;
            Some(Break::of(&text).unwrap_or_else(|| panic!("WGPT_BREAK is `{text}`, FILE[=VARIANT]: OLD => NEW is needed")))
        };
        WANTED.get_or_init(read).as_ref()
    }

    pub fn text(file: &str, variant: &str, text: String) -> String {
        let is_meant = |wanted: &&Break| wanted.file == file && wanted.variant.as_deref().is_none_or(|name| name == variant);
        let Some(Break { old, new, .. }) = wanted().filter(is_meant) else { return text };
        assert!(text.contains(old.as_str()), "WGPT_BREAK: {file}[{variant}] has no `{old}`");
        text.replace(old.as_str(), new)
    }
}

//! The binary as its users see it: what it prints, what it writes, what it refuses.

#![cfg(feature = "cli")]

mod advice;
mod bad_input;
mod bad_places;
mod bench;
mod embedding;
mod files;
mod folders;
#[cfg(unix)]
mod no_files;
mod paths;
mod profile;
#[cfg(debug_assertions)]
mod recovery;
mod runs;
mod selftest;
mod shaders;
mod start;
mod streams;
mod support;
mod texts;
mod too_large;
mod use_it;
mod variants;
mod words;

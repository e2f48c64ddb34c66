//! The import half: what `import` finds and runs comes from the node image.
//!
//! | module | holds |
//! | --- | --- |
//! | [`claims`] | which paths the bundle answers for |
//! | [`lookup`] | questions to the index |
//! | [`finder`] | the finder on `sys.meta_path` |
//! | [`folder`], [`modules`] | the finder for one folder, and `pkgutil`'s list of it |
//! | [`program`] | finder and loader for the program's own modules |
//! | [`listing`] | names in folders that the bundle doesn't answer for |
//! | [`spec`] | module specs |
//! | [`source`], [`sourceless`], [`extension`] | the loaders |
//! | [`code`], [`library`] | code objects from the mapping; shared libraries |
//! | [`copies`] | libraries in memory, where the node executes no files |
//! | [`resources`] | files that a loader is asked for |
//! | [`unplaced`] | files that importlib reaches by path |
//! | [`stdlib`], [`build`] | whose standard library serves; which build of Python runs |
//! | [`install`] | putting all of it into an interpreter |
//!
//! No Python function of ours runs during an import.

mod build;
mod claims;
mod code;
mod copies;
mod extension;
mod finder;
mod folder;
mod guard;
mod hooks;
mod install;
mod library;
mod listing;
mod lookup;
mod machinery;
mod modules;
mod paths;
mod program;
mod pth;
mod resources;
mod source;
mod sourceless;
mod spec;
mod state;
mod stdlib;
mod traceback;
mod unplaced;
mod variables;
mod version;

pub(crate) use code::compile;
pub(crate) use finder::quiet_for;
pub(crate) use guard::guard;
pub(crate) use install::{Options, install};
pub(crate) use library::is_loaded;
pub(crate) use stdlib::{OTHER_LIBRARY, check_build};
pub(crate) use traceback::place_sources;
pub(crate) use version::check;

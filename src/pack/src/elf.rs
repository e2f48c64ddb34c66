//! Shared libraries: what each ELF file needs and where the dynamic linker finds it.
//!
//! [`scan`] reads one file. [`Resolver`] takes all of an environment's and answers, for
//! every needed name, as `ld.so` would on this machine: a file of the environment, a
//! file from elsewhere that has to travel too, something that is the [`Host`]'s
//! affair, or nothing. [`Libraries::load_order`] is the order in which the loader opens
//! a module's libraries, so that `ld.so` finds each by its SONAME and searches nothing.

mod host;
mod mpi;
mod order;
mod resolve;
mod runpath;
mod scan;
mod search;
mod symbols;

pub use host::Host;
pub use resolve::{Dependency, Libraries, Library, Place, Resolver};
pub(crate) use runpath::relocate;
pub use scan::{ElfError, Glibc, Machine, Object, Scan, scan};
pub use search::SearchPath;

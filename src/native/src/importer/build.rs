#![expect(unsafe_code, reason = "walks the loaded objects")]
//! Which build of Python is running.

use std::{ffi::c_void, slice, sync::OnceLock};

use pybundle_bundle::build;

/// The build ID of the object that Python's functions lie in: libpython, or an executable that was
/// linked without one. `None` if its linker wrote none. Touches no file, and looks once.
pub(crate) fn running() -> Option<&'static str> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    FOUND.get_or_init(search).as_deref()
}

fn search() -> Option<String> {
    let mut search = Search {
        address: pyo3::ffi::Py_GetVersion as *const () as usize,
        found: None,
    };
    // SAFETY: the callback is called while this runs, with the pointer to `search`, and by no
    // other thread.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

struct Search {
    address: usize,
    found: Option<String>,
}

/// Looks at one object; 1 ends the walk.
unsafe extern "C" fn look(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    data: *mut c_void,
) -> libc::c_int {
    // SAFETY: the walk hands out a valid description, and the pointer that `running` gave it.
    let (info, search) = unsafe { (&*info, &mut *data.cast::<Search>()) };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the object's program headers, which stay as long as it is loaded.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let base = info.dlpi_addr as usize;
    let holds = |header: &&libc::Elf64_Phdr| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        header.p_type == libc::PT_LOAD
            && search.address.wrapping_sub(start) < header.p_memsz as usize
    };
    if !headers.iter().any(|header| holds(&header)) {
        return 0;
    }
    let notes = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_NOTE);
    for header in notes {
        let start = base.wrapping_add(header.p_vaddr as usize) as *const u8;
        // SAFETY: a segment that the linker has mapped for reading, of an object that stays loaded.
        let bytes = unsafe { slice::from_raw_parts(start, header.p_memsz as usize) };
        search.found = build::id_in_notes(bytes);
        if search.found.is_some() {
            break;
        }
    }
    1
}

//! Dynamic symbols and symbol versions, found as `ld.so` finds them: through the
//! dynamic section. What is out of bounds counts as absent; a file whose symbols are
//! damaged fails when it is loaded, which is not ours to foresee.

use goblin::elf::{
    dynamic::DynamicInfo,
    program_header::{PT_LOAD, PT_NOTE, ProgramHeader},
    section_header::SHN_UNDEF,
    sym::sym64::SIZEOF_SYM,
};
use pybundle_bundle::build;

use super::scan::{ElfError, Glibc};

/// The string table of the dynamic section.
#[derive(Clone, Copy)]
pub(super) struct Strings<'a>(&'a [u8]);

impl<'a> Strings<'a> {
    /// As much of the table as the file has.
    pub(super) fn new(bytes: &'a [u8], offset: usize, size: usize) -> Self {
        let rest = bytes.get(offset..).unwrap_or_default();
        Self(&rest[..size.min(rest.len())])
    }

    /// The name at an offset.
    pub(super) fn get(self, offset: u64) -> Result<&'a str, ElfError> {
        usize::try_from(offset)
            .ok()
            .and_then(|at| self.tail(at))
            .and_then(|tail| tail.split(|&byte| byte == 0).next())
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or(ElfError::Name(offset))
    }

    /// What begins at an offset: a name, its zero, and others.
    fn tail(self, at: usize) -> Option<&'a [u8]> {
        self.0.get(at..).filter(|tail| !tail.is_empty())
    }
}

/// What the names of the dynamic symbols tell.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) extension_module: bool,
    pub(super) calls_mpi: bool,
}

/// Looks through all dynamic symbols.
pub(super) fn read(bytes: &[u8], info: &DynamicInfo, strings: Strings<'_>) -> Names {
    let mut names = Names::default();
    let table = bytes.get(info.symtab..).unwrap_or_default();
    // The table's end is known from the hash tables alone.
    for symbol in table.chunks_exact(SIZEOF_SYM).take(count(bytes, info)) {
        // st_name: 4 bytes, st_info, st_other, st_shndx: 2 bytes, …
        let name = u32_at(symbol, 0).and_then(|at| strings.tail(at as usize));
        let (Some(name), Some(section)) = (name, u16_at(symbol, 6)) else {
            continue;
        };
        if u32::from(section) != SHN_UNDEF {
            names.extension_module |= name.starts_with(b"PyInit_");
        } else if name.starts_with(b"MPI_") || name.starts_with(b"mpi_") {
            names.calls_mpi |= is_mpi(name);
        }
    }
    names
}

/// Where the names of all dynamic symbols begin in the string table.
pub(super) fn names<'a>(
    bytes: &'a [u8],
    info: &DynamicInfo,
) -> impl Iterator<Item = u64> + use<'a> {
    let table = bytes.get(info.symtab..).unwrap_or_default();
    let symbols = table.chunks_exact(SIZEOF_SYM).take(count(bytes, info));
    symbols.filter_map(|symbol| u32_at(symbol, 0).map(u64::from))
}

/// A function of MPI: C's are `MPI_Init`; Fortran's names come in several manglings,
/// and `mpi_` alone may be a multi-precision integer.
fn is_mpi(name: &[u8]) -> bool {
    let fortran = [
        b"mpi_init_".as_slice(),
        b"mpi_init_thread_",
        b"mpi_comm_rank_",
    ];
    name.starts_with(b"MPI_") || fortran.iter().any(|start| name.starts_with(start))
}

/// Number of dynamic symbols.
fn count(bytes: &[u8], info: &DynamicInfo) -> usize {
    let at = |address: Option<u64>| address.and_then(|at| usize::try_from(at).ok());
    if let Some(hash) = at(info.hash) {
        // nbucket, nchain: as many as symbols.
        return u32_at(bytes, hash.saturating_add(4)).unwrap_or(0) as usize;
    }
    at(info.gnu_hash)
        .and_then(|hash| gnu_count(bytes, hash))
        .unwrap_or(0)
}

/// Number of symbols that a GNU hash table implies: the end of the last chain.
fn gnu_count(bytes: &[u8], hash: usize) -> Option<usize> {
    let table = bytes.get(hash..)?;
    let [buckets, first, bloom] = [0, 4, 8].map(|at| u32_at(table, at));
    let (buckets, first, bloom) = (buckets? as usize, first? as usize, bloom? as usize);
    let bucket_at = bloom.checked_mul(8)?.checked_add(16)?;
    let chain_at = buckets.checked_mul(4)?.checked_add(bucket_at)?;
    let heads = table.get(bucket_at..chain_at)?;
    let last = heads
        .chunks_exact(4)
        .filter_map(|head| u32_at(head, 0))
        .max()? as usize;
    // Symbols before `first` are in no chain: the undefined ones.
    let Some(start) = last.checked_sub(first) else {
        return Some(first);
    };
    let chain = table.get(start.checked_mul(4)?.checked_add(chain_at)?..)?;
    // The lowest bit marks the end of a chain.
    let length = chain.chunks_exact(4).position(|link| link[0] & 1 == 1)?;
    last.checked_add(length + 1)
}

/// The newest `GLIBC_x.y` among the versions that are needed.
pub(super) fn newest_glibc(
    bytes: &[u8],
    segments: &[ProgramHeader],
    info: &DynamicInfo,
    strings: Strings<'_>,
) -> Option<Glibc> {
    let mut newest = None;
    let mut file = offset(segments, info.verneed).filter(|_| info.verneed != 0)?;
    // A record takes 16 bytes, which limits what crossing chains can make us read.
    let mut budget = bytes.len() / 16;
    for _ in 0..info.verneednum {
        // vn_version, vn_cnt: 2 bytes each; vn_file, vn_aux, vn_next: 4 bytes each.
        let (count, first, next) = (
            u16_at(bytes, file.saturating_add(2))?,
            u32_at(bytes, file.saturating_add(8))?,
            u32_at(bytes, file.saturating_add(12))?,
        );
        let mut version = file.saturating_add(first as usize);
        for _ in 0..count {
            budget = budget.checked_sub(1)?;
            // vna_hash: 4 bytes; vna_flags, vna_other: 2 bytes each; vna_name, vna_next.
            let (name, step) = (
                u32_at(bytes, version.saturating_add(8))?,
                u32_at(bytes, version.saturating_add(12))?,
            );
            newest = newest.max(strings.get(name.into()).ok().and_then(glibc_of));
            version = version.saturating_add(step as usize);
            if step == 0 {
                break;
            }
        }
        file = file.saturating_add(next as usize);
        if next == 0 {
            break;
        }
    }
    newest
}

/// The version of glibc that first had a symbol version.
fn glibc_of(version: &str) -> Option<Glibc> {
    match version.strip_prefix("GLIBC_")? {
        "ABI_DT_RELR" => Some(Glibc {
            major: 2,
            minor: 36,
        }),
        number => number.parse().ok(),
    }
}

/// What its linker wrote to know a file again.
pub(super) fn build_id(bytes: &[u8], segments: &[ProgramHeader]) -> Option<String> {
    let mut notes = segments.iter().filter(|segment| segment.p_type == PT_NOTE);
    notes.find_map(|segment| {
        let start = usize::try_from(segment.p_offset).ok()?;
        let size = usize::try_from(segment.p_filesz).ok()?;
        build::id_in_notes(bytes.get(start..start.checked_add(size)?)?)
    })
}

/// Where an address of the loaded file lies in the file.
fn offset(segments: &[ProgramHeader], address: u64) -> Option<usize> {
    segments
        .iter()
        .filter(|segment| segment.p_type == PT_LOAD)
        .find_map(|segment| {
            let inside = address.checked_sub(segment.p_vaddr)?;
            let offset = segment.p_offset.checked_add(inside)?;
            (inside < segment.p_filesz).then(|| usize::try_from(offset).ok())?
        })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_hash_tables_tell_how_many_symbols_there_are() {
        let mut info = DynamicInfo {
            hash: Some(4),
            ..DynamicInfo::default()
        };
        assert_eq!(count(&words(&[0, 3, 17]), &info), 17);
        info.hash = Some(u64::MAX);
        assert_eq!(count(&words(&[0, 3, 17]), &info), 0);
        // Two buckets from symbol 5 on, one word of bloom filter; the chains are 5-6 and 7-9.
        let chains = [2, 3, 2, 4, 5];
        let head = [2, 5, 1, 0, 0, 0, 5, 7];
        assert_eq!(
            gnu_count(&words(&[&head[..], &chains].concat()), 0),
            Some(10)
        );
        // No bucket is used: all symbols are undefined.
        assert_eq!(gnu_count(&words(&[1, 5, 1, 0, 0, 0, 0]), 0), Some(5));
        // The last chain doesn't end, the filter is longer than the file.
        assert_eq!(
            gnu_count(&words(&[&head[..], &[2, 3, 2]].concat()), 0),
            None
        );
        assert_eq!(gnu_count(&words(&[2, 5, u32::MAX, 0]), 0), None);
    }

    #[test]
    fn names_end_where_the_table_ends() {
        let table = Strings::new(b"xx\0one\0two", 2, 100);
        assert_eq!(table.get(1), Ok("one"));
        assert_eq!(table.get(5), Ok("two"));
        assert_eq!(table.get(0), Ok(""));
        assert_eq!(table.get(8), Err(ElfError::Name(8)));
        assert_eq!(table.get(u64::MAX), Err(ElfError::Name(u64::MAX)));
        assert_eq!(Strings::new(b"abc", 9, 9).get(0), Err(ElfError::Name(0)));
    }

    #[test]
    fn calls_of_mpi_are_told_from_other_names() {
        for name in [
            "MPI_Init",
            "MPI_Comm_rank",
            "mpi_init_",
            "mpi_init_thread__",
        ] {
            assert!(is_mpi(name.as_bytes()), "{name}");
        }
        for name in ["mpi_mul", "mpi_initialise", "PMPI_Init"] {
            assert!(!is_mpi(name.as_bytes()), "{name}");
        }
    }
}

//! Which libraries are the host's affair, by their names.
//!
//! A bundle runs on other machines than the one that packed it. What belongs to the
//! machine (its C library, its MPI, its network and its GPU drivers) must come from
//! there: the copy of another machine would not find its devices or daemons. Everything
//! else travels, so that it is found, and found equal, everywhere.

/// Why a library comes from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// The C library's family and the dynamic linker. A process has one.
    C,
    /// MPI itself: chosen by what launches the program.
    Mpi,
    /// Drivers of GPUs: tied to the kernel's module.
    GpuDriver,
    /// Network libraries and process managers, tied to the machine's hardware and
    /// daemons; an environment may bring its own.
    Fabric,
    /// Runtimes of GPUs that come with the system's driver; an environment may bring its own.
    GpuRuntime,
    /// libgcc and libstdc++: compatible backwards, so that the system's serves, unless a
    /// newer one is named by its folder.
    CompilerRuntime,
    /// Windows and graphics: tied to the system's drivers, unless its folder is named.
    Graphics,
}

/// What a search may find instead of the host's library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Yields {
    /// Nothing: it is the host's, wherever a copy lies.
    Never,
    /// To a file of the environment.
    ToEnvironment,
    /// To any file outside the system's folders.
    ToNamedFolder,
}

impl Host {
    /// The host's part in a library of this file name.
    pub fn of(name: &str) -> Option<Self> {
        let stem = name.split(".so").next().unwrap_or(name);
        let table: [(Self, &[&str], &[&str]); 7] = [
            (Self::C, C, C_PREFIXES),
            (Self::Mpi, MPI, MPI_PREFIXES),
            (Self::GpuDriver, GPU_DRIVER, GPU_DRIVER_PREFIXES),
            (Self::Fabric, FABRIC, FABRIC_PREFIXES),
            (Self::GpuRuntime, GPU_RUNTIME, &[]),
            (Self::CompilerRuntime, &["libgcc_s", "libstdc++"], &[]),
            (Self::Graphics, GRAPHICS, GRAPHICS_PREFIXES),
        ];
        table
            .into_iter()
            .find(|(_, stems, prefixes)| {
                stems.contains(&stem) || prefixes.iter().any(|prefix| stem.starts_with(prefix))
            })
            .map(|(host, _, _)| host)
    }

    /// What a search may find instead.
    pub(super) fn yields(self) -> Yields {
        match self {
            Self::C | Self::Mpi | Self::GpuDriver => Yields::Never,
            Self::Fabric | Self::GpuRuntime => Yields::ToEnvironment,
            Self::CompilerRuntime | Self::Graphics => Yields::ToNamedFolder,
        }
    }
}

const C: &[&str] = &[
    "libc",
    "libm",
    "libmvec",
    "libpthread",
    "libdl",
    "librt",
    "libutil",
    "libresolv",
    "libnsl",
    "libanl",
    "libBrokenLocale",
    "libthread_db",
    "libpcprofile",
    "libmemusage",
    "linux-vdso",
];
const C_PREFIXES: &[&str] = &[
    "ld-linux",
    "ld64",
    "ld-musl",
    "libc.musl",
    "libnss_",
    "libc_malloc",
];

const MPI: &[&str] = &[
    "libmpi",
    "libmpicxx",
    "libmpifort",
    "libmpigc4",
    "libmpigf",
    "libmpiabi",
];
const MPI_PREFIXES: &[&str] = &[
    "libmpi_abi",
    "libmpi_cxx",
    "libmpi_mpifh",
    "libmpi_usempi",
    "libmpi_java",
    "libmpi_gnu",
    "libmpi_intel",
    "libmpi_cray",
    "libmpi_amd",
    "libmpi_nvidia",
    "libmpi_pgi",
    "libmpi_gtl",
    "libmpi_ilp64",
    "libmpi_mt",
    "libmpi_dbg",
    "libmpich",
    "libmpichcxx",
    "libfmpich",
    "libmpifort_",
    "libopen-rte",
    "libopen-pal",
    "liboshmem",
    "libompitrace",
    "libmca_",
];

const GPU_DRIVER: &[&str] = &["libcuda", "libcudadebugger", "libnvcuvid", "libnvoptix"];
const GPU_DRIVER_PREFIXES: &[&str] = &["libnvidia-", "libze_intel_gpu", "libigdrcl"];

const FABRIC: &[&str] = &[
    "libfabric",
    "libucp",
    "libucs",
    "libuct",
    "libucm",
    "libucc",
    "libhcoll",
    "libibverbs",
    "libibumad",
    "libibmad",
    "librdmacm",
    "libefa",
    "libpsm2",
    "libpsm_infinipath",
    "libcxi",
    "libcxiutils",
    "libxpmem",
    "libugni",
    "libudreg",
    "libdmapp",
    "libportals",
    "libprrte",
    "libpmix",
    "libpmi",
    "libpmi2",
    "libpals",
    "libsharp",
    "libsharp_coll",
    "libknem",
];
const FABRIC_PREFIXES: &[&str] = &["libmlx4", "libmlx5", "libucs_", "libpmi_"];

const GPU_RUNTIME: &[&str] = &[
    "libOpenCL",
    "libze_loader",
    "libamdhip64",
    "libhsa-runtime64",
    "librocm_smi64",
];

const GRAPHICS: &[&str] = &[
    "libX11",
    "libX11-xcb",
    "libXext",
    "libXrender",
    "libXau",
    "libXdmcp",
    "libXfixes",
    "libXi",
    "libXrandr",
    "libXcursor",
    "libXinerama",
    "libXt",
    "libXmu",
    "libXft",
    "libXss",
    "libXtst",
    "libICE",
    "libSM",
    "libEGL",
    "libGL",
    "libGLU",
    "libGLX",
    "libGLESv2",
    "libGLdispatch",
    "libOpenGL",
    "libgbm",
    "libdrm",
    "libvulkan",
    "libxkbcommon",
];
const GRAPHICS_PREFIXES: &[&str] = &["libxcb", "libwayland-", "libdrm_", "libEGL_", "libGLX_"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_the_host_provides() {
        for (name, expected) in [
            ("libc.so.6", Some(Host::C)),
            ("ld-linux-x86-64.so.2", Some(Host::C)),
            ("libm-2.31.so", None),
            ("libmpi.so.40", Some(Host::Mpi)),
            ("libmpi_gnu_112.so.12", Some(Host::Mpi)),
            ("libmpifort.so.12", Some(Host::Mpi)),
            ("libmpir.so.23", None),
            ("libmpich.so.12", Some(Host::Mpi)),
            ("libcuda.so.1", Some(Host::GpuDriver)),
            ("libcudart.so.12", None),
            ("libnvidia-ml.so.1", Some(Host::GpuDriver)),
            ("libfabric.so.1", Some(Host::Fabric)),
            ("libmlx5.so.1", Some(Host::Fabric)),
            ("libstdc++.so.6", Some(Host::CompilerRuntime)),
            ("libX11.so.6", Some(Host::Graphics)),
            ("libXfixes-03a1.so.3", None),
            ("libgfortran.so.5", None),
            ("libz.so.1", None),
            ("libcrypt.so.1", None),
        ] {
            assert_eq!(Host::of(name), expected, "{name}");
        }
    }
}

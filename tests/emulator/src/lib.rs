//! CUDA on the CPU, for tests on machines without a GPU: drop-in replacements for `libcuda.so.1`, `libnvrtc.so.13` and
//! `libcublas.so.13`, written in C++ (`cxx/`), built on first use by the system's compiler and kept.
//!
//! Load the three by their paths before anything asks for them by name, or start a process with the folder in
//! `LD_LIBRARY_PATH`: each has its SONAME, so the loader takes it for the real one.

use std::{
    env,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
};

use sha2::{Digest, Sha256};

macro_rules! sources {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../cxx/", $name)))),*] };
}

/// Every file of `cxx/`: (name, text).
const SOURCES: &[(&str, &str)] = sources![
    "atomics.hpp",
    "block.hpp",
    "copies.hpp",
    "cublas.cpp",
    "device.hpp",
    "direct.hpp",
    "driver.hpp",
    "driver_context.cpp",
    "driver_event.cpp",
    "driver_memory.cpp",
    "driver_module.cpp",
    "driver_stream.cpp",
    "fault.hpp",
    "fiber.hpp",
    "gemm.hpp",
    "grid.hpp",
    "image.hpp",
    "lane.hpp",
    "memory.hpp",
    "numbers.hpp",
    "nvrtc.cpp",
    "nvrtc_options.hpp",
    "order.hpp",
    "process.hpp",
    "runtime.cpp",
    "scan.hpp",
    "shared_services.cpp",
    "shared_services.hpp",
    "tensor_core.hpp",
    "undefined.cpp",
    "unpack.hpp",
    "warp.hpp",
    "words.hpp",
];

/// A library: its name, which is its SONAME, and what it is made of.
struct Library {
    name: &'static str,
    sources: &'static [&'static str],
    options: &'static [&'static str],
}

const CUDA: Library = Library {
    name: "libcuda.so.1",
    sources: &[
        "driver_context.cpp",
        "driver_event.cpp",
        "driver_memory.cpp",
        "driver_module.cpp",
        "driver_stream.cpp",
        "runtime.cpp",
        "shared_services.cpp",
        "undefined.cpp",
    ],
    options: &["-O2", "-ldl"],
};
const NVRTC: Library = Library {
    name: "libnvrtc.so.13",
    sources: &["nvrtc.cpp"],
    options: &["-O2", "-ldl"],
};
/// Linked to the emulated driver, which orders its work and knows the allocations.
const CUBLAS: Library = Library {
    name: "libcublas.so.13",
    sources: &["cublas.cpp"],
    options: &[
        "-O3",
        "-ffp-contract=fast",
        "libcuda.so.1",
        "-Wl,-rpath,$ORIGIN",
    ],
};

/// The folder with the three libraries and the device header.
///
/// # Errors
/// Why there is none: no C++ compiler `c++` (tests skip then, with this reason), or it does not compile them.
pub fn libraries() -> Result<PathBuf, String> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(build).clone()
}

/// Whether the system has a compiler `c++`, and which.
///
/// # Errors
/// Why it has none.
pub fn compiler() -> Result<String, String> {
    let output = Command::new("c++")
        .arg("--version")
        .output()
        .map_err(|error| format!("no C++ compiler `c++`: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("`c++ --version` fails: {}", output.status))
    }
}

fn build() -> Result<PathBuf, String> {
    let mut hash = Sha256::new();
    hash.update(compiler()?);
    for (name, text) in SOURCES {
        hash.update(format!("{name} {}\n{text}", text.len()));
    }
    hash.update(include_str!("lib.rs")); // the options
    let mut digest = String::new();
    for byte in hash.finalize().iter().take(8) {
        let _ = write!(digest, "{byte:02x}"); // a String takes all
    }
    let parent = target_folder().unwrap_or_else(env::temp_dir);
    let folder = parent.join(format!("finegrain-cuda-emulator-{digest}"));
    if !folder.is_dir() {
        build_in(&parent, &folder, &digest)?;
    }
    Ok(folder)
}

/// Cargo's target folder, if this program lies in one.
fn target_folder() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .map(Path::to_path_buf)
}

/// Builds in a folder of its own, which gets its name when it is whole. Of several processes at once, one wins.
fn build_in(parent: &Path, folder: &Path, digest: &str) -> Result<(), String> {
    let failed = |error: io::Error| {
        format!(
            "building the CUDA emulator in {}: {error}",
            parent.display()
        )
    };
    let temporary = tempfile::Builder::new()
        .prefix("finegrain-cuda-emulator-")
        .tempdir_in(parent)
        .map_err(failed)?;
    for (name, text) in SOURCES {
        fs::write(temporary.path().join(name), text).map_err(failed)?;
    }
    thread::scope(|scope| {
        let nvrtc = scope.spawn(|| compile(temporary.path(), &NVRTC, digest));
        compile(temporary.path(), &CUDA, digest)?;
        compile(temporary.path(), &CUBLAS, digest)?;
        nvrtc
            .join()
            .map_err(|_| "building libnvrtc.so.13 panicked".to_string())?
    })?;
    match fs::rename(temporary.path(), folder) {
        Err(error) if !folder.is_dir() => Err(failed(error)),
        // Renamed, or another process was first; what is left of the temporary folder is removed.
        _ => Ok(()),
    }
}

fn compile(folder: &Path, library: &Library, digest: &str) -> Result<(), String> {
    let output = Command::new("c++")
        .current_dir(folder)
        .args([
            "-std=c++17",
            "-g1",
            "-Wall",
            "-Wextra",
            "-fPIC",
            "-shared",
            "-fvisibility=hidden",
            "-pthread",
        ])
        .args(["-ffp-contract=off", "-Wl,--no-undefined", "-Wl,-z,nodelete"])
        .arg(format!("-DFINEGRAIN_EMULATOR_BUILD=\"{digest}\""))
        .arg(format!("-Wl,-soname,{}", library.name))
        .args(["-o", library.name])
        .args(library.sources)
        .args(library.options)
        .output()
        .map_err(|error| format!("`c++` cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`c++` does not compile {}: {}",
        library.name,
        message.lines().take(20).collect::<Vec<_>>().join("\n")
    ))
}

#[cfg(test)]
#[allow(clippy::print_stderr)] // why a test is skipped
mod tests {
    use super::*;

    #[test]
    fn every_source_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cxx");
        let mut names = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>();
        names.sort();
        assert_eq!(
            names,
            SOURCES.iter().map(|(name, _)| *name).collect::<Vec<_>>()
        );
    }

    #[test]
    fn several_threads_build_one_folder() {
        if let Err(reason) = compiler() {
            eprintln!("skipped: {reason}");
            return;
        }
        // Beside `libraries`, which builds once: both come to the same whole folder.
        let folders = thread::scope(|scope| {
            [scope.spawn(build), scope.spawn(build)].map(|built| built.join().unwrap().unwrap())
        });
        assert_eq!(folders[0], folders[1]);
        assert_eq!(libraries().unwrap(), folders[0]);
        for library in [&CUDA, &NVRTC, &CUBLAS] {
            assert!(folders[0].join(library.name).is_file());
        }
    }
}

//! What a GPU needs: libraries, driver, a GPU with bf16, kernels that compile and compute, products.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::bf16;

use super::{Finding, Status};
use crate::device::{
    Buffer, Device, DeviceConfig, DeviceKind, Gpu, Library, Matrix, MatrixMut, Present,
    find_libraries, present,
};
use crate::error::{Error, Result};
use crate::ops::gated::{self, Activation};

/// Everything, up to the first thing without which the next cannot be looked at.
pub(super) fn examine(missing: Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    for library in Library::ALL {
        findings.push(match find_libraries(library) {
            Ok(path) => Finding::fine(name(library), where_loaded(&path).display().to_string()),
            Err(error) => Finding::not(missing, name(library), &error),
        });
    }
    // Without the driver nothing can be asked; without the others a GPU can still be named.
    if findings[0].status != Status::Fine {
        return findings;
    }
    let gpus = match present() {
        Ok(gpus) => gpus,
        Err(error) => {
            findings.push(Finding::not(missing, "GPU", &error));
            return findings;
        }
    };
    for (ordinal, gpu) in gpus.iter().enumerate() {
        findings.push(describe(missing, ordinal, gpu));
    }
    if findings
        .iter()
        .all(|finding| finding.status == Status::Fine)
    {
        findings.extend(work(missing));
    }
    findings
}

fn name(library: Library) -> &'static str {
    match library {
        Library::Driver => "driver",
        Library::Nvrtc => "NVRTC",
        Library::Cublas => "cuBLAS",
    }
}

/// The file behind a bare name that the system's loader knew.
fn where_loaded(path: &Path) -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files = maps
        .lines()
        .filter_map(|line| line.split_once('/').map(|(_, file)| format!("/{file}")));
    // libcuda.so.1 is mapped as the file that the link names, libcuda.so.580.1.
    let stem = path.file_name().map(|name| name.to_string_lossy());
    let stem = stem.as_deref().and_then(|name| name.split(".so").next());
    let is_it = |file: &String| {
        let name = Path::new(file).file_name();
        stem.is_some_and(|stem| {
            name.is_some_and(|name| name.to_string_lossy().starts_with(&format!("{stem}.so")))
        })
    };
    if path.components().count() > 1 {
        return path.to_owned();
    }
    files
        .find(is_it)
        .map_or_else(|| path.to_owned(), PathBuf::from)
}

fn describe(missing: Status, ordinal: usize, gpu: &Present) -> Finding {
    let facts = &gpu.facts;
    let (major, minor) = facts.capability;
    let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
    let name = format!("GPU {ordinal}");
    let found = format!(
        "{}, compute capability {major}.{minor}, {:.1} GiB, {:.1} GiB free, CUDA {}.{}{}",
        facts.name,
        gib(facts.memory),
        gib(gpu.free),
        facts.driver / 1000,
        facts.driver % 1000 / 10,
        driver_version().map_or_else(String::new, |version| format!(", driver {version}")),
    );
    if facts.capability < (8, 0) {
        let error = Error::input(format!("{found}: no bf16"))
            .hint("compute capability 8.0 (A100) or above is needed; CUDA_VISIBLE_DEVICES or device.ordinal chooses a GPU");
        return Finding::not(missing, name, &error);
    }
    Finding::fine(name, format!("{found}; f32, bf16"))
}

/// NVIDIA's number of the driver, which is not CUDA's.
fn driver_version() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_number = |word: &&str| word.split('.').count() > 1 && word.starts_with(char::is_numeric);
    text.split_whitespace().find(is_number).map(str::to_owned)
}

/// Opens the first GPU, as a run would, and has it compute.
fn work(missing: Status) -> Vec<Finding> {
    let config = DeviceConfig {
        kind: DeviceKind::Cuda,
        ..DeviceConfig::default()
    };
    let gpu = match Device::open(&config) {
        Ok(Device::Cuda(gpu)) => gpu,
        Ok(Device::Cpu) => unreachable!("a GPU was asked for"),
        Err(error) => return vec![Finding::not(missing, "open", &error)],
    };
    let checked = |name: &str, done: Result<String>| match done {
        Ok(found) => Finding::fine(name, found),
        Err(error) => Finding::not(missing, name, &error),
    };
    vec![
        checked("kernels", kernels(&gpu)),
        checked("products", products(&gpu)),
    ]
}

/// The largest allowed difference, relative to the greatest value: two roundings to bf16, of 2⁻⁹ each.
const TOLERANCE: f32 = 1.0 / 256.0;

/// A kernel of the program that every model needs, beside the processor's version.
fn kernels(gpu: &Arc<Gpu>) -> Result<String> {
    const ROWS: usize = 3;
    const WIDTH: usize = 64;
    let gate_up = values(2 * ROWS * WIDTH);
    let mut expected = vec![0f32; ROWS * WIDTH];
    gated::forward(Activation::Silu, &gate_up, WIDTH, &mut expected);
    let from = Buffer::upload_real(gpu, &gate_up)?;
    let mut out = Buffer::new(gpu, ROWS * WIDTH)?;
    gated::cuda::forward(gpu, Activation::Silu, from.view(), WIDTH, out.view_mut())?;
    let worst = difference(&out.download_real()?, &expected)?;
    Ok(format!(
        "compile, and compute the processor's values in bf16 (off by {worst:.1e} of the greatest)"
    ))
}

fn products(gpu: &Arc<Gpu>) -> Result<String> {
    const SIDE: usize = 32;
    let (a, b) = (values(SIDE * SIDE), values(2 * SIDE * SIDE));
    let b = &b[SIDE * SIDE..];
    let mut expected = vec![0f32; SIDE * SIDE];
    for (at, out) in expected.iter_mut().enumerate() {
        let (row, column) = (at / SIDE, at % SIDE);
        *out = (0..SIDE)
            .map(|k| a[row * SIDE + k] * b[k * SIDE + column])
            .sum();
    }
    let (a, b) = (Buffer::upload_real(gpu, &a)?, Buffer::upload_real(gpu, b)?);
    let mut out: Buffer<f32> = Buffer::new(gpu, SIDE * SIDE)?;
    gpu.multiply(
        MatrixMut::new(out.view_mut(), SIDE, SIDE),
        Matrix::new(a.view(), SIDE, SIDE),
        Matrix::new(b.view(), SIDE, SIDE),
        1.0,
        false,
    )?;
    let worst = difference(&out.download()?, &expected)?;
    Ok(format!(
        "the processor's values, of bf16 accumulated in f32 (off by {worst:.1e} of the greatest)"
    ))
}

/// Some values between −2 and 2 that bf16 has.
fn values(count: usize) -> Vec<f32> {
    let wave = |at: usize| (at as f32 * 0.7).sin() * 2.0;
    (0..count)
        .map(|at| bf16::from_f32(wave(at)).to_f32())
        .collect()
}

fn difference(found: &[f32], expected: &[f32]) -> Result<f32> {
    let greatest = expected
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    let worst = found
        .iter()
        .zip(expected)
        .map(|(f, e)| {
            if f.is_finite() {
                (f - e).abs() / greatest
            } else {
                f32::INFINITY
            }
        })
        .fold(0f32, f32::max);
    if worst <= TOLERANCE {
        Ok(worst)
    } else {
        Err(Error::internal(format!(
            "the GPU computes something else than the processor: off by {worst:.1e} of the greatest value, {TOLERANCE:.1e} is allowed"
        ))
        .hint("compute-sanitizer finegrain doctor --require cuda says where"))
    }
}

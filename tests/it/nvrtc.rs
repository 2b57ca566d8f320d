//! The kernels through NVIDIA's own compiler, which needs no GPU: where it is found (`pip install nvidia-cuda-nvrtc` in the
//! active environment, or its folder in `FINEGRAIN_CUDA_LIBRARIES`).

use finegrain::device::{Dtype, Library, Program, compile, find_libraries};

/// Bytes that a kernel may spill: four registers. One of attention's gives one away so that three blocks fit a multiprocessor.
const FEW: usize = 16;

/// Kernels that spill more than a few bytes, as `ptxas -v` prints them.
fn spilled(log: &str) -> Vec<String> {
    let mut kernel = String::new();
    let mut found = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Function properties for ") {
            rest.clone_into(&mut kernel);
        }
        let bytes = |what: &str| -> usize {
            let before = line
                .split_once(what)
                .map_or("0", |(before, _)| before.trim());
            before.rsplit(' ').next().unwrap().parse().unwrap()
        };
        if line.contains("spill stores") {
            let most = bytes("bytes spill stores").max(bytes("bytes spill loads"));
            if most > FEW {
                found.push(format!("{kernel}: {}", line.trim()));
            }
        }
    }
    found
}

#[test]
fn all_kernels_compile_for_ampere_and_hopper_and_those_of_usual_models_do_not_spill() {
    match find_libraries(Library::Nvrtc) {
        Ok(path) if !path.to_string_lossy().contains("emulator") => {}
        Ok(_) => return eprintln!("skipped: only the emulator's NVRTC is here"),
        Err(reason) => return eprintln!("skipped: {reason}"),
    }
    for architecture in [80, 90] {
        for dtype in [Dtype::Bf16, Dtype::F32] {
            for program in [
                Program::Common,
                Program::Heads(64),
                Program::Heads(128),
                Program::Heads(6),
                Program::Heads(256),
                Program::Scores {
                    size: 128,
                    capped: false,
                    windowed: true,
                },
                Program::Scores {
                    size: 256,
                    capped: true,
                    windowed: true,
                },
            ] {
                let compiled = compile(program, dtype, architecture).unwrap();
                assert_eq!(&compiled.image[..4], b"\x7fELF");
                // One block of properties a kernel: the log says what was asked of it.
                assert!(compiled.log.contains("spill stores"), "{}", compiled.log);
                let spilled = spilled(&compiled.log);
                if matches!(program, Program::Common | Program::Heads(64)) {
                    assert!(
                        spilled.is_empty(),
                        "{program:?} {dtype:?} sm_{architecture}: {spilled:#?}"
                    );
                } else if !spilled.is_empty() {
                    eprintln!("{program:?} {dtype:?} sm_{architecture}: {spilled:#?}");
                }
            }
        }
    }
}

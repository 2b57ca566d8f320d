//! `finegrain doctor` with and without CUDA, and the benches on a GPU: the emulator's, on machines without one.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should fail where it stands"
)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{cuda_libraries, refused};
use serde_json::Value;

fn run(args: &[&str], libraries: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_finegrain"))
        .args(args)
        .env_remove("FINEGRAIN_PLUGIN_PATH")
        .env("FINEGRAIN_CUDA_LIBRARIES", libraries)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    let message = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).expect(&message)
}

fn find<'v>(findings: &'v Value, name: &str) -> &'v Value {
    let found = findings.as_array().unwrap().iter();
    let mut found = found.filter(|one| one["name"].as_str().unwrap().starts_with(name));
    found.next().expect(name)
}

/// On a machine with a GPU its own libraries are found, for a named folder only comes first.
#[test]
fn a_machine_is_described_and_a_missing_gpu_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = store.to_str().unwrap();
    let output = run(&["doctor", "--json", "--store", store], folder.path());
    assert_eq!(output.status.code(), Some(0));
    let all = json(&output);
    assert_eq!(all["processor_works"], true);
    for name in ["finegrain", "processor", "memory", "plugins", "store"] {
        assert_eq!(find(&all["processor"], name)["status"], "fine", "{name}");
    }
    let driver = find(
        &all["cuda"],
        if cfg!(feature = "cuda") {
            "driver"
        } else {
            "CUDA"
        },
    );
    // Machines with a driver and machines without one.
    assert_ne!(driver["status"], "failed");
    let required = ["doctor", "--require", "cuda", "--json", "--store", store];
    let output = run(&required, folder.path());
    let all = json(&output);
    if all["cuda_works"] == false {
        assert_eq!(output.status.code(), Some(2));
        let failed = all["cuda"].as_array().unwrap();
        assert!(failed.iter().any(|one| one["status"] == "failed"));
    } else {
        assert_eq!(output.status.code(), Some(0));
    }
    let output = run(&["doctor", "--plugin", "no/such.so"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("✗ plugins"));
}

#[cfg(feature = "cuda")]
#[test]
fn with_cuda_everything_is_fine_and_a_kernel_has_computed() {
    let Some(libraries) = cuda_libraries() else {
        return;
    };
    let output = run(&["doctor", "--require", "cuda", "--json"], &libraries);
    let all = json(&output);
    assert_eq!(output.status.code(), Some(0), "{all:#}");
    assert_eq!(all["cuda_works"], true);
    for name in ["driver", "NVRTC", "cuBLAS", "GPU 0", "kernels", "products"] {
        assert_eq!(find(&all["cuda"], name)["status"], "fine", "{name}");
    }
    let text = run(&["doctor"], &libraries);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("✓ kernels") && !text.contains('✗'), "{text}");
}

#[cfg(feature = "cuda")]
#[test]
fn benches_on_a_gpu_say_which_and_how_much_memory_it_took() {
    let Some(libraries) = cuda_libraries() else {
        return;
    };
    let shape = [
        "--shape",
        "32,64,1,1,1,64",
        "--batch",
        "2x4",
        "--repetitions",
        "1",
    ];
    let flags = ["--device", "cuda", "--dtype", "bf16", "--json"];
    let args = [&["bench", "train", "--lora", "2"][..], &shape, &flags].concat();
    let report = json(&run(&args, &libraries));
    assert_eq!(
        (&report["dtype"], &report["lora"]),
        (&"bf16".into(), &2.into())
    );
    assert_ne!(report["device"], "cpu");
    // At least the weights, in bf16.
    let weights = 2 * report["parameters"].as_u64().unwrap();
    assert!(report["device_peak_bytes"].as_u64().unwrap() > weights);
    assert!(report["floor"]["gemm_flops_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn devices_that_do_not_go_with_a_bench_are_refused() {
    for (args, word) in [
        (&["train", "--dtype", "bf16"][..], "computes in f32"),
        (&["generate", "--prompt", "64"], "--prompt 64"),
        (
            &["generate", "--weights", "q8", "--device", "cuda"],
            "own dtype",
        ),
    ] {
        refused(&[&["bench"], args].concat(), 2, &[word]);
    }
}

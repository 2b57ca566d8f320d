//! Accesses beyond the end end the process, after a word about where: seen from outside, in a process of its own.

use std::{env, process::Command};

use crate::support::{Shape, gpu};

const FAULTS: &str = r#"
extern "C" __global__ void write_at(float* x, int i) { if (threadIdx.x == 3) x[i] = 1.0f; }
extern "C" __global__ void write_shared_at(int i) {
    DYNAMIC_SHARED(memory);
    memory[i] = 1;
}
extern "C" __global__ void recurse(volatile int* x) {
    struct Deep {
        static int down(volatile int* x, int n) {
            volatile char local[4096];
            local[n % 4096] = 1;
            return n == 0 ? 0 : down(x, n - 1) + local[n % 4096];
        }
    };
    *x = Deep::down(x, 1000);
}
"#;

/// Runs the ignored test below in a process of its own, with the fault's name; its messages.
fn faulting(fault: &str) -> Option<String> {
    gpu()?; // built, or skipped with a reason
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "faults::one_fault", "--ignored", "--nocapture"])
        .env("FINEGRAIN_EMULATOR_TEST_FAULT", fault)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(139), "{said}");
    Some(said)
}

#[test]
#[ignore = "ends the process: run by the other tests"]
fn one_fault() {
    let Some(gpu) = gpu() else { return };
    let fault = env::var("FINEGRAIN_EMULATOR_TEST_FAULT").unwrap_or_default();
    let kernel = |name| gpu.kernel(FAULTS, name);
    let x = gpu.upload(&[0.0_f32; 8]);
    match fault.as_str() {
        "behind" => gpu.launch(kernel("write_at"), Shape(1, 32, 0), &[&x, &8_i32]),
        "before" => gpu.launch(kernel("write_at"), Shape(1, 32, 0), &[&x, &-1024_i32]),
        "shared" => gpu.launch(kernel("write_shared_at"), Shape(1, 1, 64), &[&64_i32]),
        "stack" => gpu.launch(kernel("recurse"), Shape(1, 1, 0), &[&x]),
        _ => return,
    };
}

#[test]
fn a_write_behind_the_end() {
    let Some(said) = faulting("behind") else {
        return;
    };
    let expected = "kernel write_at, block (0, 0, 0), thread (3, 0, 0): illegal access";
    assert!(
        said.contains(expected)
            && said.contains("0 bytes behind the end of the live allocation of 32 bytes"),
        "{said}"
    );
}

#[test]
fn a_write_in_front_of_the_first_allocation() {
    let Some(said) = faulting("before") else {
        return;
    };
    assert!(
        said.contains("4096 bytes in front of the live allocation of 32 bytes"),
        "{said}"
    );
}

#[test]
fn a_write_behind_dynamic_shared_memory() {
    let Some(said) = faulting("shared") else {
        return;
    };
    assert!(
        said.contains("0 bytes behind the end of the block's dynamic shared memory"),
        "{said}"
    );
}

#[test]
fn a_stack_that_is_too_deep() {
    let Some(said) = faulting("stack") else {
        return;
    };
    assert!(
        said.contains("kernel recurse") && said.contains("beyond its stack"),
        "{said}"
    );
}

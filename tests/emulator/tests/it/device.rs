//! The device header without the driver: a C++ program (`device.cpp`), in every order of threads.

use std::process::Command;

use crate::support::gpu;

#[test]
fn the_device_header_keeps_its_promises_in_every_order() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("device");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/device.cpp");
    let compiled = Command::new("c++")
        .args(["-std=c++17", "-O2", "-ffp-contract=off", "-pthread", "-I"])
        .arg(&gpu.folder)
        .args([source, "-o"])
        .arg(&program)
        .status()
        .unwrap();
    assert!(compiled.success());
    for order in ["forward", "backward", "shuffle"] {
        let run = Command::new(&program)
            .env("FINEGRAIN_EMULATOR_ORDER", order)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{order}: {said}");
        let expected = "kernel diverging, block (0, 0, 0): thread (7, 0, 0) waits at __shfl_sync";
        assert!(said.contains(expected), "{order}: {said}");
    }
}

//! Streams, captured graphs and events.

use std::ffi::{c_int, c_uint, c_void};

use crate::support::{CAPTURE_INVALIDATED, CAPTURE_UNSUPPORTED, ILLEGAL_ADDRESS, Shape, call, gpu};

const DOUBLE: &str = r#"
extern "C" __global__ void twice(const float* x, float* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 2.0f * x[i];
}
"#;

#[test]
fn a_graph_is_replayed_with_what_the_memory_holds_then() {
    let Some(gpu) = gpu() else { return };
    let kernel = gpu.kernel(DOUBLE, "twice");
    let x = gpu.upload(&[1.0_f32, 2.0, 3.0]);
    let y = gpu.upload(&[0.0_f32; 3]);
    let z = gpu.upload(&[0.0_f32; 3]);
    gpu.begin_capture();
    assert_eq!(gpu.launch(kernel, Shape(1, 32, 0), &[&x, &y, &3_i32]), 0);
    let copied = call!(gpu.cuda, cuMemcpyDtoDAsync_v2(z => u64, y => u64, 12 => usize, gpu.stream => *mut c_void));
    assert_eq!(copied, 0);
    assert_eq!(
        call!(gpu.cuda, cuMemsetD32Async(y => u64, 0 => c_uint, 3 => usize, gpu.stream => *mut c_void)),
        0
    );
    let graph = gpu.end_capture().unwrap();
    // Recorded, not done.
    assert_eq!(gpu.read::<f32>(z, 3), [0.0; 3]);
    gpu.replay(graph);
    assert_eq!(gpu.read::<f32>(z, 3), [2.0, 4.0, 6.0]);
    assert_eq!(gpu.write(x, &[5.0_f32, 6.0, 7.0]), 0);
    gpu.replay(graph);
    assert_eq!(gpu.read::<f32>(z, 3), [10.0, 12.0, 14.0]);
    assert_eq!(gpu.read::<f32>(y, 3), [0.0; 3]);
    // Memory that a graph uses must outlive it.
    gpu.free(x);
    assert_eq!(
        call!(gpu.cuda, cuGraphLaunch(graph => *mut c_void, gpu.stream => *mut c_void)),
        ILLEGAL_ADDRESS
    );
    assert_eq!(call!(gpu.cuda, cuGraphExecDestroy(graph => *mut c_void)), 0);
}

#[test]
fn waiting_for_a_stream_that_is_captured_ends_the_capture() {
    let Some(gpu) = gpu() else { return };
    gpu.begin_capture();
    assert_eq!(
        call!(gpu.cuda, cuStreamSynchronize(gpu.stream => *mut c_void)),
        CAPTURE_UNSUPPORTED
    );
    assert_eq!(gpu.end_capture().unwrap_err(), CAPTURE_INVALIDATED);
    gpu.begin_capture();
    let mut address = 0_u64;
    assert_eq!(
        call!(gpu.cuda, cuMemAlloc_v2(&raw mut address => *mut u64, 16 => usize)),
        CAPTURE_UNSUPPORTED
    );
    assert_eq!(gpu.end_capture().unwrap_err(), CAPTURE_INVALIDATED);
    // The null stream cannot be captured.
    let null = std::ptr::null_mut::<c_void>();
    assert_eq!(
        call!(gpu.cuda, cuStreamBeginCapture_v2(null => *mut c_void, 1 => c_int)),
        CAPTURE_UNSUPPORTED
    );
}

#[test]
fn a_captured_stream_does_not_wait_for_an_event_from_outside() {
    let Some(gpu) = gpu() else { return };
    let mut event = std::ptr::null_mut::<c_void>();
    assert_eq!(
        call!(gpu.cuda, cuEventCreate(&raw mut event => *mut *mut c_void, 2 => c_uint)),
        0
    );
    let wait = || call!(gpu.cuda, cuStreamWaitEvent(gpu.stream => *mut c_void, event => *mut c_void, 0 => c_uint));
    let record = || call!(gpu.cuda, cuEventRecord(event => *mut c_void, gpu.stream => *mut c_void));
    gpu.begin_capture();
    assert_eq!(wait(), 0); // never recorded: nothing to wait for
    assert_eq!(record(), 0);
    assert_eq!(wait(), 0);
    assert_eq!(
        call!(gpu.cuda, cuEventSynchronize(event => *mut c_void)),
        907
    );
    gpu.end_capture().unwrap();
    assert_eq!(record(), 0);
    gpu.begin_capture();
    assert_eq!(wait(), 905);
    assert_eq!(gpu.end_capture().unwrap_err(), CAPTURE_INVALIDATED);
}

#[test]
fn events_measure_time_if_they_were_made_for_it() {
    let Some(gpu) = gpu() else { return };
    let event = |flags: c_uint| {
        let mut event = std::ptr::null_mut::<c_void>();
        assert_eq!(
            call!(gpu.cuda, cuEventCreate(&raw mut event => *mut *mut c_void, flags => c_uint)),
            0
        );
        assert_eq!(
            call!(gpu.cuda, cuEventRecord(event => *mut c_void, gpu.stream => *mut c_void)),
            0
        );
        event
    };
    let (start, end, untimed) = (event(0), event(0), event(2));
    let mut milliseconds = -1.0_f32;
    let mut elapsed = |from: *mut c_void, to: *mut c_void| call!(gpu.cuda, cuEventElapsedTime_v2(&raw mut milliseconds => *mut f32, from => *mut c_void, to => *mut c_void));
    assert_eq!(elapsed(start, end), 0);
    assert_eq!(elapsed(start, untimed), 400);
    assert!(milliseconds >= 0.0);
}

//! The largest resident set of the process.

use crate::proc_files;

/// Bytes at the peak so far, as Linux counts them (`VmHWM`); `None` on other systems.
pub(super) fn peak_bytes() -> Option<u64> {
    proc_files::bytes("/proc/self/status", "VmHWM")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_counted() {
        let before = peak_bytes().unwrap();
        let buffer = vec![1u8; 64 << 20];
        assert!(std::hint::black_box(&buffer).iter().all(|&byte| byte == 1));
        let after = peak_bytes().unwrap();
        assert!(after >= 64 << 20 && after >= before);
    }
}

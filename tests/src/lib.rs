//! Helpers of the integration tests: where the shared data and the built plugins lie.

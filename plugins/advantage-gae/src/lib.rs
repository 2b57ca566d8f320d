//! Advantage estimator: generalised advantage estimation.

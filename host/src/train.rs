//! Training: optimizer, schedules, supervised fine-tuning, reward model, PPO. Every metric is defined in
//! docs/metrics.md, every switch of PPO in docs/ppo.md.

pub mod adamw;
pub mod batching;
pub mod gradients;
pub mod schedule;

//! Training: optimizer, schedules, supervised fine-tuning, reward model, PPO. Every metric is defined in
//! docs/metrics.md, every switch of PPO in docs/ppo.md.

pub mod adamw;
pub mod batching;
pub mod forward;
pub mod ppo;
pub mod reward_model;
pub mod rollout_batch;
pub mod sampling;
pub mod schedule;
pub mod sft;
#[cfg(test)]
mod testing;

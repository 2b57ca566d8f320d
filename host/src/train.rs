//! Training: optimizer, schedules, SFT, reward model, PPO.

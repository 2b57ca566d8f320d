//! Reward scheme: one reward a response, on its last token (PPO-RLHF).

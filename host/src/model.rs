//! The LLaMA model: parameters, forward pass, heads, checkpoints, generation.

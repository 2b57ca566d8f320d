//! Reward scheme: a reward for every token, trained on their average (eq. 1 to 4 of the paper).

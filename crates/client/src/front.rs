//! What CUDA's calls mean.

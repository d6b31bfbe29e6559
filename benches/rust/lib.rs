//! Criterion benchmarks of merged-diffusion-core; each question stands in its bench file.

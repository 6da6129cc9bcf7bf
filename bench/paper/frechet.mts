import { EigenvalueDecomposition, Matrix } from "ml-matrix";

/** Mean and covariance of samples of several features. */
export interface Moments {
  /** [features] */
  mean: Float64Array;
  /** [features × features], divided by the number of samples less one. */
  covariance: Matrix;
}

/** The moments of `samples`, [number × features], at least two of them. */
export function moments(samples: ArrayLike<number>, features: number): Moments {
  const count = samples.length / features;
  const mean = new Float64Array(features);
  for (let k = 0; k < samples.length; ++k) mean[k % features]! += samples[k]! / count;
  const sums = Array.from({ length: features }, () => new Float64Array(features));
  const centred = new Float64Array(features);
  for (let row = 0; row < count; ++row) {
    for (let k = 0; k < features; ++k) centred[k] = samples[row * features + k]! - mean[k]!;
    for (const [i, ofRow] of sums.entries()) {
      for (let j = 0; j <= i; ++j) ofRow[j]! += centred[i]! * centred[j]!;
    }
  }
  const covariance = Matrix.zeros(features, features);
  for (const [i, ofRow] of sums.entries()) {
    for (let j = 0; j <= i; ++j) {
      covariance.set(i, j, ofRow[j]! / (count - 1));
      covariance.set(j, i, ofRow[j]! / (count - 1));
    }
  }
  return { mean, covariance };
}

/**
 * The squared Fréchet distance of two normal distributions (Heusel et al., NeurIPS 2017): |μ₁ − μ₂|² + tr(C₁ + C₂ −
 * 2·(C₁C₂)^½). The trace of the root is that of (C₁^½·C₂·C₁^½)^½, which is symmetric. NaN if a moment is not finite.
 */
export function frechetDistance(a: Moments, b: Moments): number {
  const values = [...a.covariance.to1DArray(), ...b.covariance.to1DArray()];
  if (!values.every(Number.isFinite)) return NaN;
  const { realEigenvalues, eigenvectorMatrix: vectors } = eigen(a.covariance);
  const root = vectors.mmul(Matrix.diag(realEigenvalues.map(rootOf))).mmul(vectors.transpose());
  const product = root.mmul(b.covariance).mmul(root);
  const symmetric = product.add(product.transpose()).div(2);
  const rootTrace = eigen(symmetric).realEigenvalues.reduce((sum, value) => sum + rootOf(value), 0);
  const distance = a.mean.reduce((sum, value, k) => sum + (value - b.mean[k]!) ** 2, 0);
  return distance + a.covariance.trace() + b.covariance.trace() - 2 * rootTrace;
}

function eigen(symmetric: Matrix): EigenvalueDecomposition {
  return new EigenvalueDecomposition(symmetric, { assumeSymmetric: true });
}

/** Eigenvalues of covariances are at least 0, and below it only by rounding. */
function rootOf(eigenvalue: number): number {
  return Math.sqrt(Math.max(0, eigenvalue));
}

// For consumers whose own `lib` ends before Symbol.dispose.
/// <reference lib="esnext.disposable" preserve="true" />

export { openJax } from "./model";
export type { JaxLoss, JaxModel, JaxParameter, JaxTermGradients } from "./model";
export type { JaxArray, JaxModule } from "./module";

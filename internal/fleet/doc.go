// Package fleet holds the words that the whole of Tidemark shares: Worker, Phase, Reading, Quality, Size, Bounds,
// Decision, Reason and Event. They are plain values without behaviour beyond naming and printing themselves; what
// happens to them is decided in decide/engine and carried out by control.
package fleet

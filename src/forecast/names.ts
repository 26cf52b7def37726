/** What can be asked to forecast. */
export const engineChoices = ['auto', 'lstm', 'ets', 'prophet', 'ewma', 'last'] as const;
export type EngineName = (typeof engineChoices)[number];

/** Forecasters that are fitted to a series now and then, in a thread of their own. */
export const fittedKinds = ['ets', 'prophet'] as const;
export type FittedKind = (typeof fittedKinds)[number];
export const isFittedKind = (name: string): name is FittedKind => (fittedKinds as readonly string[]).includes(name);

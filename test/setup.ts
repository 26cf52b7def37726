import fc from 'fast-check';

// The same random cases every time, so that a red run can be seen again; FORETOKEN_SEED draws others. A failure
// prints its seed and path.
fc.configureGlobal({ seed: Number(process.env.FORETOKEN_SEED ?? 1) });

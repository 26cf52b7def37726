import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Two suites at once on two cores: the tests that open worker threads need the rest.
    maxWorkers: 2,
  },
});

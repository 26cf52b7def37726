import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Packs and installs hundreds of megabytes from a registry: `npm run test:package`, a step of its own.
    exclude: process.env.FORETOKEN_TEST_PACKAGE ? [] : ['test/package/**'],
    pool: 'forks',
    setupFiles: ['test/setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Two suites at once on two cores: the tests that open worker threads need the rest.
    maxWorkers: 2,
  },
});

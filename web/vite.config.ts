// How the page is built and its units are tested. `npm run dev` passes the API on to a runtime on this machine.
import react from '@vitejs/plugin-react';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/** In a pod this file comes from the operator. */
const devConfig: Plugin = {
  name: 'dev-config',
  configureServer(server) {
    server.middlewares.use('/config.json', (_, response) => response.end('{"chatbot":"dev","title":"Development"}'));
  },
};

export default defineConfig({
  plugins: [react(), devConfig],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0, // the page's policy allows no inlined fonts or scripts
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { '/v1': 'http://127.0.0.1:8000' } },
  test: { include: ['tests/**/*.test.ts'] },
});

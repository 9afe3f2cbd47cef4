import Link from 'next/link';

import { Counter } from './counter.jsx';

// Rendered for each request, by the server in the sandbox.
export const dynamic = 'force-dynamic';

export default function About() {
  return (
    <main>
      <h1>About</h1>
      <p id="sandbox">{process.env.WRENN_SANDBOX_ID}</p>
      <Counter />
      <Link href="/">Home</Link>
    </main>
  );
}

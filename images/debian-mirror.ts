// Debian packages come from the mirror that this machine is configured to use, by apt's own reading of it.
import { runProgram } from '@wrenn/kit/run-program';

const fallback = 'http://deb.debian.org/debian';
const aptOptions = ['-q', '-o', 'Acquire::Retries=3', '-o', 'DPkg::Lock::Timeout=300'];

// Puts a package's archive into a directory; false if the mirror does not offer it.
export async function aptGetDownload(what: string, dir: string): Promise<boolean> {
  if (await tryDownload(what, dir)) return true;
  await runProgram('apt-get', [...aptOptions, 'update'], { timeoutMs: 300_000 });
  return await tryDownload(what, dir);
}

async function tryDownload(what: string, dir: string): Promise<boolean> {
  const args = [...aptOptions, '-o', 'APT::Sandbox::User=root', 'download', what];
  try {
    // apt-get writes to its working directory.
    await runProgram('env', ['-C', dir, 'apt-get', ...args], { timeoutMs: 600_000 });
    return true;
  } catch (error) {
    if (error instanceof Error && /Unable to locate|was not found|No packages found|can't find/i.test(error.message))
      return false;
    throw error;
  }
}

// The sources of a release as sources.list lines, from the mirrors configured here or Debian's own.
export async function releaseSources(release: string): Promise<string[]> {
  const targets = await runProgram('apt-get', [
    'indextargets',
    '--format',
    '$(ORIGIN) $(RELEASE) $(REPO_URI) $(COMPONENT)',
  ]);
  const suites = [release, `${release}-updates`, `${release}-security`];
  return sourceLines(targets, suites) ?? [`deb ${fallback} ${release} main`];
}

// Reads `apt-get indextargets`; undefined if it knows no Debian mirror for the first of the suites.
export function sourceLines(targets: string, suites: readonly string[]): string[] | undefined {
  const lines = new Set<string>();
  for (const target of targets.split('\n')) {
    const [origin, suite, uri, component] = target.split(' ');
    if (origin === 'Debian' && component === 'main' && suite && uri && suites.includes(suite))
      lines.add(`deb ${uri} ${suite} main`);
  }
  return [...lines].some((line) => line.includes(` ${suites[0]} `)) ? [...lines].toSorted() : undefined;
}

// How this machine reaches its mirrors (proxies, certificates), as options for another apt.
export async function aptAcquireOptions(): Promise<string[]> {
  const dump = await runProgram('apt-config', ['dump', '--no-empty', '--format', '%f "%v";%n']);
  return dump
    .split('\n')
    .filter((line) => /^Acquire::(http|https|ftp)::(.*::)?(Proxy|CaInfo|CaPath|Verify)/i.test(line));
}

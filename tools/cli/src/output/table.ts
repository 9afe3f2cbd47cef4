// Left-aligned columns two blanks apart; the last column is never padded. Cells must be printable.
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_name, column) => Math.max(...all.map((row) => width(row[column] ?? ''))));
  const line = (row: readonly string[]) =>
    header
      .map((_name, column) => (row[column] ?? '') + ' '.repeat((widths[column] ?? 0) - width(row[column] ?? '')))
      .join('  ')
      .trimEnd();
  return all.map(line).join('\n');
}

function width(cell: string): number {
  return Array.from(cell).length;
}

// What columns.py packs: name -> {rows, width, values}, values row after row.
async function unpack({ columns, data }) {
  const deflated = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const unpacked = {};
  let at = 0;
  for (const [name, { rows, width, resolution }] of Object.entries(columns)) {
    const count = rows * width, values = new Float64Array(count);
    for (let column = 0; column < width; column++) {
      const unit = Array.isArray(resolution) ? resolution[column] : resolution;
      let sum = 0;
      for (let row = 0; row < rows; row++) {
        const i = at + column * rows + row;
        const step = (bytes[i] | bytes[i + count] << 8 | bytes[i + 2 * count] << 16 | bytes[i + 3 * count] << 24) >>> 0;
        sum += step % 2 ? -(step + 1) / 2 : step / 2;
        values[row * width + column] = sum * unit;
      }
    }
    at += 4 * count;
    unpacked[name] = { rows, width, values };
  }
  return unpacked;
}

// Row `time` (a fraction lies between two), into `out`. Quaternions start at `quaternions`.
function rowAt({ rows, width, values }, time, out, quaternions = []) {
  const before = Math.min(Math.floor(time), rows - 1), after = Math.min(before + 1, rows - 1);
  const share = time - before, a = before * width, b = after * width;
  for (let i = 0; i < width; i++) out[i] = values[a + i] + share * (values[b + i] - values[a + i]);
  for (const start of quaternions) {
    let dot = 0;
    for (let i = start; i < start + 4; i++) dot += values[a + i] * values[b + i];
    const sign = dot < 0 ? -1 : 1;
    let square = 0;
    for (let i = start; i < start + 4; i++) {
      out[i] = (1 - share) * values[a + i] + share * sign * values[b + i];
      square += out[i] * out[i];
    }
    for (let i = start; i < start + 4; i++) out[i] /= Math.sqrt(square) || 1;
  }
  return out;
}

"use strict";

const LANES = 16; // the length of a row in memory is a multiple of it

// The network. Its matrices are in one memory, as float32, with a row for each output.
class Network {
  constructor(about, arrays, wasm) {
    this.about = about;
    const { layers, units } = about.model;
    const names = Array.from({ length: layers }, (_, n) => `recurrent_${n + 1}`);
    for (let n = 2; n <= layers; n++) names.push(`kernel_${n}`);
    names.push("dense_kernel");
    this.vocabSize = arrays.dense_kernel.shape[1];
    this.width = arrays.recurrent_1.shape[1];
    this.padded = LANES * Math.ceil(units / LANES);
    const sizes = names.map((name) => this.padded * arrays[name].shape[1]);
    const vectors = this.padded + Math.max(this.width, this.vocabSize);
    const size = 4 * sizes.reduce((sum, one) => sum + one, vectors);
    [this.buffer, this.multiply] = products(size, wasm);
    this.memory = new Float32Array(this.buffer);
    this.x = this.memory.subarray(0, units);
    this.out = this.memory.subarray(this.padded, vectors);
    this.places = {};
    let place = vectors;
    names.forEach((name, n) => {
      this.store(arrays[name], place);
      this.places[name] = place;
      place += sizes[n];
    });
    this.first = arrays.kernel_1;
    this.biases = Array.from({ length: layers }, (_, n) => arrays[`bias_${n + 1}`].values);
    this.denseBias = arrays.dense_bias.values;
    this.inputs = new Float32Array(this.width);
    this.reset();
  }

  // Store a matrix (inputs, outputs), by output.
  store({ values, scales, shape: [length, count] }, place) {
    for (let i = 0; i < length; i++)
      for (let j = 0; j < count; j++)
        this.memory[place + j * this.padded + i] = scaled(values, scales, i, j, count);
  }

  reset() {
    const { layers, units, cell } = this.about.model;
    const count = layers * (cell === "lstm" ? 2 : 1);
    this.states = Array.from({ length: count }, () => new Float32Array(units));
    this.logits = null; // nothing is predicted yet
  }

  // Multiply a matrix with x; the products are in `out`.
  product(name, count) {
    this.multiply(4 * this.places[name], this.padded, count, 0, 4 * this.padded);
  }

  // Read an id; afterwards, `logits` are those of the next one.
  read(id) {
    const { layers, cell, activation, recurrent_activation } = this.about.model;
    const each = cell === "lstm" ? 2 : 1, advance = { lstm, gru, rnn }[cell];
    const activate = activations[activation || recurrent_activation || defaults[cell]];
    for (let n = 0; n < layers; n++) {
      if (n) this.product(`kernel_${n + 1}`, this.width);
      const { values, scales } = this.first;
      for (let j = 0; j < this.width; j++)
        this.inputs[j] = n ? this.out[j] : scaled(values, scales, id, j, this.width);
      const states = this.states.slice(n * each, (n + 1) * each);
      this.x.set(states[0]);
      this.product(`recurrent_${n + 1}`, this.width);
      advance(activate, this.inputs, this.out, this.biases[n], states);
      this.x.set(states[0]);
    }
    this.product("dense_kernel", this.vocabSize);
    this.logits = Float32Array.from(this.denseBias, (bias, j) => this.out[j] + bias);
  }
}

const scaled = (values, scales, i, j, count) => values[i * count + j] * (scales ? scales[j] : 1);

// Return a memory of at least so many bytes, and the function that multiplies in it: compiled, with
// several numbers at a time, where the browser can do that.
function products(size, wasm) {
  try {
    const memory = new WebAssembly.Memory({ initial: Math.ceil(size / 65536) });
    const module = new WebAssembly.Module(wasm);
    return [memory.buffer, new WebAssembly.Instance(module, { page: { memory } }).exports.multiply];
  } catch {
    const buffer = new ArrayBuffer(size), memory = new Float32Array(buffer);
    return [buffer, (...places) => multiply(memory, ...places)];
  }
}

// The same in JavaScript; places are in bytes.
function multiply(memory, rows, length, count, x, out) {
  for (let j = 0, row = rows / 4; j < count; j++, row += length) {
    let a = 0, b = 0, c = 0, d = 0;
    for (let i = 0, k = x / 4; i < length; i += 4, k += 4) {
      a += memory[row + i] * memory[k];
      b += memory[row + i + 1] * memory[k + 1];
      c += memory[row + i + 2] * memory[k + 2];
      d += memory[row + i + 3] * memory[k + 3];
    }
    memory[out / 4 + j] = a + b + (c + d);
  }
}

const activations = {
  sigmoid: (x) => 0.5 + 0.5 * Math.tanh(0.5 * x),
  hard_sigmoid: (x) => Math.min(Math.max(0.2 * x + 0.5, 0), 1),
  tanh: Math.tanh,
  relu: (x) => Math.max(x, 0),
};
const defaults = { lstm: "sigmoid", gru: "sigmoid", rnn: "tanh" };

// The gates i f g o lie side by side, as in Keras; z r g in a GRU.
function lstm(gate, inputs, products, bias, [h, c]) {
  const units = h.length;
  for (let j = 0; j < units; j++) {
    const z = (k) => inputs[k * units + j] + products[k * units + j] + bias[k * units + j];
    c[j] = gate(z(1)) * c[j] + gate(z(0)) * Math.tanh(z(2));
    h[j] = gate(z(3)) * Math.tanh(c[j]);
  }
}

function gru(gate, inputs, products, bias, [h]) {
  const units = h.length, second = 3 * units;
  for (let j = 0; j < units; j++) {
    const x = (k) => inputs[k * units + j] + bias[k * units + j];
    const y = (k) => products[k * units + j] + bias[second + k * units + j];
    const z = gate(x(0) + y(0));
    h[j] = z * h[j] + (1 - z) * Math.tanh(x(2) + gate(x(1) + y(1)) * y(2));
  }
}

function rnn(activate, inputs, products, bias, [h]) {
  for (let j = 0; j < h.length; j++) h[j] = activate(inputs[j] + products[j] + bias[j]);
}

// Return the bytes of base64; in a loop, since Uint8Array.from takes ten times as long.
function decoded(base64) {
  const content = atob(base64), bytes = new Uint8Array(content.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = content.charCodeAt(i);
  return bytes.buffer;
}

// Return the arrays by name, from one buffer; float16 is widened.
function unpack(manifest, buffer) {
  const kinds = { float32: Float32Array, int8: Int8Array, float16: Uint16Array };
  const array = ({ type, shape, offset }) => {
    const values = new kinds[type](buffer, offset, shape.reduce((a, b) => a * b, 1));
    return type === "float16" ? Float32Array.from(values, half) : values;
  };
  const entries = manifest.map((entry) => [
    entry.name,
    { values: array(entry), scales: entry.scales && array(entry.scales), shape: entry.shape },
  ]);
  return Object.fromEntries(entries);
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// The uniform numbers of `charlstm sample`: Philox 4x64-10 (Salmon et al. 2011), as in numpy.
class Uniform {
  constructor(seed) {
    this.seed = BigInt(seed);
  }

  at(t) {
    const block = Math.floor(t / 4);
    if (block !== this.block) {
      this.block = block;
      this.numbers = philox(BigInt(block) + 1n, this.seed);
    }
    return Number(this.numbers[t % 4] >> 11n) * 2 ** -53;
  }
}

function philox(counter, seed) {
  const mask = (1n << 64n) - 1n;
  let [a, b, c, d] = [counter, 0n, 0n, 0n], key = seed, other = 0n;
  for (let round = 0; round < 10; round++) {
    const one = a * 0xd2e7470ee14c6c93n, two = c * 0xca5a826395121157n;
    [a, b, c, d] = [(two >> 64n) ^ b ^ key, two & mask, (one >> 64n) ^ d ^ other, one & mask];
    key = (key + 0x9e3779b97f4a7c15n) & mask;
    other = (other + 0xbb67ae8584caa73bn) & mask;
  }
  return [a, b, c, d];
}

// Draw an id: the first whose cumulative probability exceeds the number, as `charlstm sample` does.
function draw(logits, number, { temperature, topK, topP, minP }) {
  const top = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
  if (!temperature) return top;
  const weights = Float64Array.from(logits, (z) => Math.exp((z - logits[top]) / temperature));
  if (topK || (topP && topP < 1)) keepLikeliest(weights, topK || weights.length, topP || 1);
  const left = minP ? weights.map((w) => (w >= minP ? w : 0)) : weights;
  const total = left.reduce((sum, w) => sum + w, 0);
  let sum = 0;
  for (let i = 0; i < left.length; i++) {
    sum += left[i];
    if (left[i] > 0 && sum > number * total) return i;
  }
  return top;
}

function keepLikeliest(weights, topK, topP) {
  const falling = weights.slice().sort().reverse().slice(0, topK);
  let count = falling.length;
  if (topP < 1) {
    const reached = topP * falling.reduce((sum, w) => sum + w, 0);
    let before = 0;
    for (count = 0; count < falling.length && before < reached; count++) before += falling[count];
    count = Math.max(count, 1);
  }
  const least = falling[count - 1];
  let room = count - weights.reduce((above, w) => above + (w > least), 0);
  weights.forEach((w, i) => {
    if (w < least || (w === least && room-- <= 0)) weights[i] = 0;
  });
}

const KEPT = 16; // characters between states that are kept, to go back to
const GUESSES = 5;
const SLICE = 40; // milliseconds of work between looks at new messages

// A text: its ids, and the network after it. A model of records begins each record anew, after the
// end of a separator; another model begins with its first character, or, without a prime, after
// `opening`, which is not part of the text.
class Text {
  constructor(network) {
    this.network = network;
    const characters = [...network.about.vocabulary], training = network.about.training;
    const known = (text) => text && [...text].every((c) => characters.includes(c));
    let separator = training.records === true ? "\n" : "";
    if (typeof training.record_separator === "string")
      separator = training.record_separator || separator;
    this.separator = known(separator) ? [...separator].map((c) => characters.indexOf(c)) : [];
    this.unknown = network.about.unknown ? characters.indexOf("\ufffd") : -1;
    this.newline = Math.max(0, characters.indexOf("\n"));
    this.begin(false);
  }

  begin(opened) {
    this.ids = [];
    this.kept = [];
    this.restart();
    if (opened && !this.separator.length) this.network.read(this.newline);
  }

  restart() {
    this.network.reset();
    if (this.separator.length) this.network.read(this.separator.at(-1));
    this.record = [];
  }

  // Go back to the first `count` ids.
  cut(count) {
    const ids = this.ids.slice(0, count);
    const from = Math.min(Math.floor(count / KEPT), this.kept.length - 1);
    if (from < 0) return;
    const [states, logits, record] = this.kept[from];
    this.kept.length = from;
    this.network.states = states.map((state) => state.slice());
    this.network.logits = logits && logits.slice();
    this.record = record;
    this.ids = ids.slice(0, from * KEPT);
    for (const id of ids.slice(from * KEPT)) this.add(id);
  }

  // Read an id; return its surprisal in bits, if it was predicted, and the likeliest ids.
  add(id) {
    const { logits, states } = this.network;
    if (this.ids.length === this.kept.length * KEPT)
      this.kept.push([states.map((s) => s.slice()), logits && logits.slice(), this.record]);
    const about = { id };
    if (logits) {
      const top = logits.reduce((a, b) => Math.max(a, b));
      const odds = Float64Array.from(logits, (z) => Math.exp(z - top));
      const total = odds.reduce((sum, w) => sum + w, 0);
      const order = Array.from(odds.keys()).sort((a, b) => odds[b] - odds[a] || a - b);
      about.bits = -Math.log2(odds[id] / total);
      about.guesses = order.slice(0, GUESSES).map((other) => [other, odds[other] / total]);
    }
    this.network.read(id);
    this.ids.push(id);
    if (this.separator.length) {
      this.record = [...this.record, id].slice(-this.separator.length);
      if (`${this.record}` === `${this.separator}`) this.restart();
    }
    return about;
  }

  following(number, settings) {
    const logits = this.network.logits.slice();
    if (this.unknown >= 0) logits[this.unknown] = -Infinity;
    return draw(logits, number, settings);
  }
}

// Messages: {load}, then {write} or {pause}; a message ends what an earlier one began. To write is to
// keep so many characters, read those to `add`, and draw `count` more. Answers: {ready}; pieces of
// the text, the last of which is done.
if (typeof WorkerGlobalScope !== "undefined") {
  let text, task = 0;
  self.onmessage = ({ data }) => {
    const mine = ++task;
    if (data.load) {
      const { about, manifest, weights, wasm } = data.load;
      const arrays = unpack(manifest, decoded(weights));
      text = new Text(new Network(about, arrays, decoded(wasm)));
      self.postMessage({ ready: true });
      return;
    }
    if (!data.write) {
      self.postMessage({ characters: [], done: true });
      return;
    }
    let { drawn, count } = data.write;
    const { keep, add, seed, settings } = data.write;
    if (keep) text.cut(keep);
    else text.begin(!add.length);
    const uniform = new Uniform(seed), begun = performance.now();
    let written = 0, read = 0;
    const work = () => {
      if (task !== mine) return;
      const until = performance.now() + SLICE, characters = [];
      while ((read < add.length || count > 0) && performance.now() < until) {
        if (read < add.length) {
          characters.push({ ...text.add(add[read++]), given: true });
        } else {
          characters.push(text.add(text.following(uniform.at(drawn++), settings)));
          count--;
        }
        written++;
      }
      const speed = (1000 * written) / (performance.now() - begun);
      const done = read === add.length && count <= 0;
      self.postMessage({ characters, drawn, count, speed, done });
      if (!done) setTimeout(work);
    };
    work();
  };
}

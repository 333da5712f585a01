"use strict";
// The network of a page, given as text: `step` is a function from an id and the states (float32, one
// after the other) to the logits and the new states; `decoded` is the page's own.
function pageStep(page) {
  const block = (name) => page.match(new RegExp(`id="${name}">([^]*?)</script>`))[1];
  const names = "{ Network, unpack, decoded }";
  const { Network, unpack, decoded } = new Function(`${block("worker")}\nreturn ${names};`)();
  const { about, manifest } = JSON.parse(block("data"));
  const arrays = unpack(manifest, decoded(block("weights")));
  const network = new Network(about, arrays, decoded(block("wasm")));
  const units = about.model.units;
  const step = (id, states) => {
    network.states.forEach((state, n) => state.set(states.subarray(n * units, (n + 1) * units)));
    network.read(id);
    return Float32Array.of(...network.logits, ...network.states.flatMap((state) => [...state]));
  };
  return { step, decoded };
}

function encoded(array) {
  let content = "";
  for (const byte of new Uint8Array(array.buffer)) content += String.fromCharCode(byte);
  return btoa(content);
}

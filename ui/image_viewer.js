// An image with zoom (wheel, pinch, + and -), pan (drag, arrow keys), window and level, and a map laid over it.
// All of it happens here: no run of the page is needed. Captions are set as text, never as markup.
const viewers = new WeakMap()
const LARGEST = 16

class Viewer {
  constructor(root) {
    this.root = root
    this.canvas = root.querySelector("canvas")
    this.window = root.querySelector(".window")
    this.level = root.querySelector(".level")
    this.pointers = new Map()
    this.pictures = []
    this.wanted = 0
    this.home()
    const on = (element, name, act) => element.addEventListener(name, act, {passive: false})
    on(this.canvas, "wheel", event => { event.preventDefault(); this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, this.at(event)) })
    on(this.canvas, "pointerdown", event => { this.canvas.setPointerCapture(event.pointerId); this.pointers.set(event.pointerId, this.at(event)) })
    on(this.canvas, "pointermove", event => this.move(event))
    for (const name of ["pointerup", "pointercancel"]) on(this.canvas, name, event => this.pointers.delete(event.pointerId))
    on(this.canvas, "dblclick", () => this.reset())
    on(this.canvas, "keydown", event => this.key(event))
    on(root.querySelector(".in"), "click", () => this.zoom(1.4))
    on(root.querySelector(".out"), "click", () => this.zoom(1 / 1.4))
    on(root.querySelector(".reset"), "click", () => this.reset())
    for (const slider of [this.window, this.level]) on(slider, "input", () => { this.tone(); this.draw() })
    this.observer = new ResizeObserver(() => this.draw())
    this.observer.observe(this.canvas)
  }

  home() { this.scale = 1; this.x = 0; this.y = 0 }

  reset() {
    this.home()
    this.window.value = 255
    this.level.value = 128
    this.tone()
    this.draw()
  }

  async show(data) {
    const turn = ++this.wanted
    const load = async src => { const image = new Image(); image.src = src; await image.decode(); return image }
    const pictures = await Promise.all(data.images.map(async entry => ({...entry, image: await load(entry.src)})))
    const heat = data.heat ? await load(data.heat) : null
    if (turn !== this.wanted) return  // a later pair is on its way
    if (data.pair !== this.pair) this.home()
    const kept = data.pair === this.pair && this.index < pictures.length ? this.index : 0
    Object.assign(this, {pair: data.pair, pictures, heat, height: data.height})
    this.choose(kept)
    this.canvas.dataset.pair = data.pair
  }

  choose(index) {
    if (index !== this.index) this.home()
    this.index = index
    const others = this.root.querySelector(".others")
    others.replaceChildren(...(this.pictures.length < 2 ? [] : this.pictures.map((picture, i) => {
      const button = document.createElement("button")
      button.type = "button"
      button.textContent = picture.caption
      button.setAttribute("aria-pressed", String(i === index))
      button.addEventListener("click", () => this.choose(i))
      return button
    })))
    this.canvas.setAttribute("aria-label", this.pictures[index].caption)
    this.tone()
    this.draw()
  }

  tone() {  // out = (in - lower end of the window) / width of the window
    const picture = this.pictures[this.index]
    if (!picture) return
    const {image} = picture
    const width = Number(this.window.value), low = Number(this.level.value) - width / 2
    this.toned = new OffscreenCanvas(image.naturalWidth, image.naturalHeight)
    const context = this.toned.getContext("2d", {willReadFrequently: true})
    context.drawImage(image, 0, 0)
    if (width === 255 && Number(this.level.value) === 128) return
    const pixels = context.getImageData(0, 0, this.toned.width, this.toned.height), values = pixels.data
    const table = Uint8ClampedArray.from({length: 256}, (_, value) => 255 * (value - low) / width)
    for (let i = 0; i < values.length; i += 4) for (let k = i; k < i + 3; k++) values[k] = table[values[k]]
    context.putImageData(pixels, 0, 0)
  }

  draw() {
    if (!this.toned) return
    const ratio = window.devicePixelRatio || 1, width = this.canvas.clientWidth
    if (!width) return
    const height = Math.min(this.height, Math.max(240, width))
    this.canvas.style.height = `${height}px`
    this.canvas.width = Math.round(width * ratio)
    this.canvas.height = Math.round(height * ratio)
    const context = this.canvas.getContext("2d")
    const fit = Math.min(this.canvas.width / this.toned.width, this.canvas.height / this.toned.height) * this.scale
    const w = this.toned.width * fit, h = this.toned.height * fit
    const left = (this.canvas.width - w) / 2 + this.x * ratio, top = (this.canvas.height - h) / 2 + this.y * ratio
    context.imageSmoothingEnabled = fit < 8
    context.imageSmoothingQuality = "high"
    context.drawImage(this.toned, left, top, w, h)
    if (this.heat && this.index === 0) context.drawImage(this.heat, left, top, w, h)
  }

  zoom(factor, place = {x: 0, y: 0}) {
    const scale = Math.min(LARGEST, Math.max(1, this.scale * factor)), real = scale / this.scale
    this.x = scale === 1 ? 0 : place.x - (place.x - this.x) * real
    this.y = scale === 1 ? 0 : place.y - (place.y - this.y) * real
    this.scale = scale
    this.draw()
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect()
    return {x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2}
  }

  move(event) {
    const before = this.pointers.get(event.pointerId)
    if (!before) return
    const now = this.at(event), other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1]
    this.pointers.set(event.pointerId, now)
    if (other) {
      const apart = point => Math.hypot(point.x - other.x, point.y - other.y) || 1
      this.zoom(apart(now) / apart(before), {x: (now.x + other.x) / 2, y: (now.y + other.y) / 2})
    } else {
      this.x += now.x - before.x
      this.y += now.y - before.y
      this.draw()
    }
  }

  key(event) {
    const steps = {ArrowLeft: [30, 0], ArrowRight: [-30, 0], ArrowUp: [0, 30], ArrowDown: [0, -30]}
    if (event.key === "+" || event.key === "=") this.zoom(1.4)
    else if (event.key === "-") this.zoom(1 / 1.4)
    else if (event.key === "0") this.reset()
    else if (event.key in steps) { this.x += steps[event.key][0]; this.y += steps[event.key][1]; this.draw() }
    else return
    event.preventDefault()
    event.stopPropagation()
  }
}

export default function ({parentElement, data}) {
  const root = parentElement.querySelector(".viewer")
  if (!viewers.has(root)) viewers.set(root, new Viewer(root))
  viewers.get(root).show(data)
}

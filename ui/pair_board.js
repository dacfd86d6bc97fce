// Pairs as a list or a grid, and the map of them. A click anywhere opens a pair, arrows move on, hovering shows image and
// note, a loop on the map chooses pairs. Text is set as text, never as markup.
const boards = new WeakMap()
const NEAR = 9      // pixels around a click in which a point is hit
const PAUSE = 120   // ms after the last arrow key until its pair is opened

class Board {
  constructor(root) {
    this.root = root
    this.get = name => root.querySelector(name)
    this.items = this.get(".items")
    this.canvas = this.get("canvas")
    this.tip = this.get(".tip")
    this.lasso = false
    this.view = {x: 0, y: 0, scale: 1}
    const on = (element, name, act) => element.addEventListener(name, act, {passive: false})
    on(this.get("button.list"), "click", () => this.tiles(false))
    on(this.get("button.grid"), "click", () => this.tiles(true))
    on(this.get("button.lasso"), "click", () => { this.lasso = !this.lasso; this.press(".lasso", this.lasso) })
    on(this.get("button.home"), "click", () => { this.view = {x: 0, y: 0, scale: 1}; this.draw() })
    on(this.items, "click", event => { const one = event.target.closest(".one"); if (one) this.open(one.dataset.id) })
    on(this.items, "keydown", event => this.key(event))
    on(this.items, "mouseover", event => { const one = event.target.closest(".one"); if (one) this.hover(one.dataset.id, event) })
    on(this.items, "mouseleave", () => this.hover(null))
    on(this.canvas, "keydown", event => this.key(event))
    on(this.canvas, "pointerdown", event => this.down(event))
    on(this.canvas, "pointermove", event => this.move(event))
    on(this.canvas, "pointerup", event => this.up(event))
    on(this.canvas, "pointerleave", () => { if (!this.drag) this.hover(null) })
    on(this.canvas, "wheel", event => { event.preventDefault(); this.zoom(event) })
    new ResizeObserver(() => this.draw()).observe(this.canvas)
  }

  press(name, on) { this.get(`button${name}`).setAttribute("aria-pressed", on) }

  tiles(on) {
    this.items.classList.toggle("tiles", on)
    this.press(".list", !on)
    this.press(".grid", on)
  }

  show(data, open, choose) {
    if (!this.data) this.tiles(data.tiles)
    const listed = JSON.stringify(data.items.map(one => one.id))
    Object.assign(this, {data, tell: open, choose})
    this.root.style.setProperty("--list-height", `${data.list_height}px`)
    this.root.style.setProperty("--map-height", `${data.map_height}px`)
    this.get(".said").textContent = data.said
    this.known = new Map(data.items.map(one => [one.id, one]))
    if (listed !== this.listed) {
      this.items.replaceChildren(...data.items.map(one => this.one(one)))
      if (!data.items.length) {
        const words = document.createElement("div")
        words.className = "empty"
        words.textContent = data.empty
        this.items.append(words)
      }
      this.listed = listed
    }
    this.mark(data.selected)
    this.get(".map").hidden = !data.map
    if (data.map) {
      this.canvas.setAttribute("aria-label", data.map.alt)
      this.get(".legend").replaceChildren(...data.map.legend.map(entry => {
        const words = document.createElement("span"), dot = document.createElement("i")
        dot.style.background = entry.colour
        words.append(dot, entry.name)
        return words
      }))
      this.places = new Map(data.map.ids.map((id, i) => [id, i]))
      this.draw()
    }
  }

  one(entry) {
    const one = document.createElement("div")
    one.className = "one"
    one.dataset.id = entry.id
    one.tabIndex = -1
    one.setAttribute("role", "option")
    const image = document.createElement(entry.src ? "img" : "div")
    if (entry.src) { image.src = entry.src; image.alt = `Image of pair ${entry.id}`; image.loading = "lazy" } else image.className = "none"
    const words = document.createElement("div"), head = document.createElement("b"), note = document.createElement("p")
    head.textContent = entry.head
    note.textContent = entry.note
    words.append(head, note)
    one.append(image, words)
    return one
  }

  mark(id) {
    this.selected = id
    for (const one of this.items.children) {
      const chosen = one.dataset?.id === id
      one.setAttribute("aria-selected", chosen)
      one.tabIndex = chosen ? 0 : -1
      if (chosen) {
        const top = one.offsetTop - this.items.offsetTop
        if (top < this.items.scrollTop || top + one.offsetHeight > this.items.scrollTop + this.items.clientHeight) {
          this.items.scrollTop = top - this.items.clientHeight / 3
        }
      }
    }
    this.root.dataset.selected = id ?? ""
  }

  open(id) {
    if (!id) return
    this.hover(null)
    this.mark(id)
    this.draw()
    this.tell(id)
  }

  key(event) {
    const step = {ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1}[event.key]
    if (!step) return
    event.preventDefault()
    const ids = this.data.items.map(one => one.id)
    const next = ids[Math.min(ids.length - 1, Math.max(0, ids.indexOf(this.selected) + step))]
    if (!next || next === this.selected) return
    this.mark(next)
    this.draw()
    this.items.querySelector("[aria-selected=true]")?.focus({preventScroll: true})
    clearTimeout(this.pending)
    this.pending = setTimeout(() => this.tell(next), PAUSE)
  }

  hover(id, event) {
    const entry = id && (this.known.get(id) ?? {note: this.data.map?.notes[this.places?.get(id)] ?? "", id})
    this.tip.hidden = !entry
    if (!entry) return
    const image = this.tip.querySelector("img")
    image.hidden = !entry.src
    if (entry.src) image.src = entry.src
    this.tip.querySelector("p").textContent = `${id}: ${entry.note}`
    const box = this.root.getBoundingClientRect()
    const x = event.clientX - box.left, y = event.clientY - box.top
    this.tip.style.left = `${x + 16}px`
    this.tip.style.top = `${Math.max(0, Math.min(y - 60, box.height - 300))}px`
  }

  // The map ------------------------------------------------------------------------------------------------------------

  place(i) {
    const {x, y} = this.data.map, {width, height} = this.size
    return [
      (x[i] * 0.94 + 0.03) * width * this.view.scale + this.view.x,
      (1 - (y[i] * 0.94 + 0.03)) * height * this.view.scale + this.view.y,
    ]
  }

  draw() {
    const map = this.data?.map
    if (!map || !this.canvas.clientWidth) return
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight, ratio = window.devicePixelRatio || 1
    this.size = {width, height}
    this.canvas.width = width * ratio
    this.canvas.height = height * ratio
    const pen = this.canvas.getContext("2d")
    pen.scale(ratio, ratio)
    const radius = map.ids.length > 3000 ? 1.8 : map.ids.length > 800 ? 2.4 : 3.2
    for (const front of [false, true]) {
      for (let i = 0; i < map.ids.length; i++) {
        const shown = map.passes[i] === 1
        if ((shown && map.front[i] === 1) !== front) continue
        const [x, y] = this.place(i)
        pen.globalAlpha = shown ? (front ? 0.95 : 0.65) : 0.16
        pen.fillStyle = shown ? map.colours[i] : "#8A919B"
        pen.beginPath()
        if (front && shown) pen.rect(x - radius - 0.8, y - radius - 0.8, 2 * radius + 1.6, 2 * radius + 1.6)
        else pen.arc(x, y, radius, 0, 7)
        pen.fill()
      }
    }
    pen.globalAlpha = 1
    const ring = this.places.get(this.selected)
    this.canvas.dataset.ring = ring === undefined ? "" : this.selected
    if (ring !== undefined) {
      const [x, y] = this.place(ring)
      pen.strokeStyle = "#E0A800"
      pen.lineWidth = 3
      pen.beginPath()
      pen.arc(x, y, 9, 0, 7)
      pen.stroke()
    }
    if (this.loop?.length > 1) {
      pen.strokeStyle = "#E0A800"
      pen.lineWidth = 1.5
      pen.beginPath()
      this.loop.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)))
      pen.stroke()
    }
  }

  at(event) { const box = this.canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top] }

  hit([x, y]) {
    let best = null, least = NEAR
    for (let i = 0; i < this.data.map.ids.length; i++) {
      const [a, b] = this.place(i)
      const far = Math.hypot(a - x, b - y) + (this.data.map.passes[i] ? 0 : 4)
      if (far < least) { least = far; best = this.data.map.ids[i] }
    }
    return best
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId)
    this.drag = {start: this.at(event), from: {...this.view}, moved: false}
    if (this.lasso) this.loop = [this.drag.start]
  }

  move(event) {
    const at = this.at(event)
    if (!this.drag) { this.hover(this.hit(at), event); return }
    const [dx, dy] = [at[0] - this.drag.start[0], at[1] - this.drag.start[1]]
    if (Math.hypot(dx, dy) > 4) this.drag.moved = true
    if (!this.drag.moved) return
    if (this.lasso) this.loop.push(at)
    else this.view = {...this.view, x: this.drag.from.x + dx, y: this.drag.from.y + dy}
    this.draw()
  }

  up(event) {
    const drag = this.drag, loop = this.loop
    this.drag = this.loop = null
    if (!drag) return
    if (!drag.moved) { this.open(this.hit(this.at(event))); return }  // a click, in either mode
    if (loop) {
      this.choose(this.data.map.ids.filter((_, i) => inside(this.place(i), loop)))
      this.lasso = false
      this.press(".lasso", false)
    }
    this.draw()
  }

  zoom(event) {
    const [x, y] = this.at(event), by = event.deltaY < 0 ? 1.2 : 1 / 1.2
    const scale = Math.min(40, Math.max(1, this.view.scale * by)), real = scale / this.view.scale
    this.view = scale === 1 ? {x: 0, y: 0, scale} : {x: x - (x - this.view.x) * real, y: y - (y - this.view.y) * real, scale}
    this.draw()
  }
}

function inside([x, y], loop) {
  let within = false
  for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
    const [a, b] = loop[i], [c, d] = loop[j]
    if ((b > y) !== (d > y) && x < ((c - a) * (y - b)) / (d - b) + a) within = !within
  }
  return within
}

export default function ({data, parentElement, setTriggerValue}) {
  const root = parentElement.querySelector(".board")
  if (!boards.has(root)) boards.set(root, new Board(root))
  boards.get(root).show(data, id => setTriggerValue("opened", id), ids => setTriggerValue("chosen", ids))
}

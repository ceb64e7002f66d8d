// A browser refuses workers to a page that was opened as a file. The search then runs in a hidden frame instead, which
// is given a worker's names. The theme asks for a file of this name, and would take its own from the network.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<!doctype html>";
      frame.onload = () => {
        const inside = frame.contentWindow;
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        const script = inside.document.createElement("script");
        script.src = url;
        script.onload = () => {
          this.frame = inside;
          this.waiting.splice(0).forEach((data) => this.postMessage(data));
        };
        inside.document.head.append(script);
      };
      document.documentElement.append(frame);
    }

    postMessage(data) {
      if (this.frame) this.frame.dispatchEvent(new MessageEvent("message", { data }));
      else this.waiting.push(data);
    }
  };
}

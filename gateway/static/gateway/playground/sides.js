// The chats and the settings: beside the talk where there is room, else they open over it and close by themselves.

import { found } from "./elements.js";

const ROOM = { chats: "(min-width: 48rem)", settings: "(min-width: 72rem)" };

export function arrangeSides() {
  for (const [id, room] of Object.entries(ROOM)) {
    const side = found(id);
    const query = matchMedia(room);
    const opener = document.querySelector(`[data-opens="${id}"]`);
    const arrange = () => {
      side.popover = query.matches ? null : "auto";
      opener.hidden = query.matches;
    };
    opener.popoverTargetElement = side;
    opener.ariaExpanded = "false";
    side.addEventListener("toggle", (event) => {
      opener.ariaExpanded = String(event.newState === "open");
    });
    query.addEventListener("change", arrange);
    arrange();
  }
}

export function closeSides() {
  for (const id of Object.keys(ROOM)) {
    const side = found(id);
    if (side.popover !== null && side.matches(":popover-open")) side.hidePopover();
  }
}

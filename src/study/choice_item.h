#ifndef DUO_STUDY_CHOICE_ITEM_H
#define DUO_STUDY_CHOICE_ITEM_H

#include "duo/choice.h"

/** Free what an item holds, also one that is half built, and empty it. */
void study_choice_item_free(duo_choice_item *item);

#endif

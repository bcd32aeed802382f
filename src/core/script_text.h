/* The texts of scripts that have a file of their own; script.c has their contracts. */
#ifndef REDLANE_CORE_SCRIPT_TEXT_H
#define REDLANE_CORE_SCRIPT_TEXT_H

extern const char redlane_script_limit_text[];
extern const char redlane_script_charge_text[];
extern const char redlane_script_slot_text[];

#endif
